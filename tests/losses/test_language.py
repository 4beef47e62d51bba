"""Laws of token losses; and all losses of text and image-text against other libraries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from libraries import answers, check_answer

from repjax.losses import contrastive, language, masked, matching, sentence, tagging

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 5, 7)).astype(np.float32)
TOKENS = RNG.integers(7, size=(6, 5)).astype(np.int32)


def over_tokens(loss, count):
  """The mean over the tokens of the whole batch, of which each example has ``count``."""
  return jnp.sum(loss * count) / jnp.sum(count)


def masked_tokens(logits, labels, **options):
  loss = masked.masked_tokens(logits, labels, **options)
  return over_tokens(loss, jnp.sum(labels >= 0, 1))


def next_token(logits, tokens, **options):
  return jnp.mean(language.next_token(logits, tokens, **options))


def captioning(logits, tokens):
  return over_tokens(language.captioning(logits, tokens), jnp.sum(tokens[:, 1:] != 0, 1))


def image_text_matching(positive, negatives):
  return jnp.mean(matching.image_text_matching(positive, negatives))


def masked_soft_labels(logits, target):
  return jnp.mean(matching.masked_soft_labels(logits, target, np.ones((6, 4), bool)))


def guided_info_nce(margin=0.0, within=True):
  options = {"temperature": 0.1, "query_to_query": within, "key_to_key": within, "margin": margin}
  return lambda **arrays: jnp.mean(sentence.guided_info_nce(**arrays, **options))


def info_nce(query, key):
  return jnp.mean(contrastive.info_nce(query, key, temperature=1 / 20))


def margin_mse(query, key, other, more, teacher):
  """A teacher's margins may come as they are: as scores of which the positive's is 0."""
  student = jnp.stack([jnp.sum(query * x, -1) for x in (key, other, more)], 1)
  return jnp.mean(sentence.margin_mse(student, teacher))


def asymmetric(**options):
  return lambda x, y: jnp.mean(tagging.asymmetric_multi_label(x, y, **options))


SMOOTH = {"label_smoothing": 0.1}
SAME_AS = {
  "masked_tokens_torch": masked_tokens,
  "masked_tokens_smooth_torch": lambda **x: masked_tokens(**x, **SMOOTH),
  "next_token_torch": next_token,
  "next_token_smooth_torch": lambda **x: next_token(**x, **SMOOTH),
  "captioning_open_clip": captioning,
  "image_text_matching_torch": image_text_matching,
  "masked_soft_labels_torch": masked_soft_labels,
  "cosent_sentence_transformers": sentence.cosent,
  "angle_sentence_transformers": sentence.angle,
  "angle_odd_sentence_transformers": sentence.angle,
  "guided_info_nce_sentence_transformers": guided_info_nce(),
  "guided_info_nce_margin_sentence_transformers": guided_info_nce(margin=0.2),
  "guided_info_nce_one_way_sentence_transformers": guided_info_nce(within=False),
  "info_nce_sentence_transformers": info_nce,
  "margin_mse_sentence_transformers": margin_mse,
  "asymmetric_timm": asymmetric(),
  "asymmetric_held_timm": asymmetric(through_weights=False),
}


@pytest.mark.parametrize("answer", answers("language"))
def test_loss_equals_another_library(answer):
  check_answer("language", answer, SAME_AS[answer])


@pytest.mark.parametrize("prefix", [0, 2, 5])
def test_a_prefix_is_seen_by_all_and_the_rest_by_those_after_it(prefix):
  mask = language.prefix_mask(prefix, 5)
  wanted = [[key < prefix or key <= query for key in range(5)] for query in range(5)]
  np.testing.assert_array_equal(mask, wanted)


def test_each_example_may_have_a_prefix_of_its_own():
  masks = language.prefix_mask(np.array([0, 3, 5]), 5)
  for mask, prefix in zip(masks, (0, 3, 5), strict=True):
    np.testing.assert_array_equal(mask, language.prefix_mask(prefix, 5))


def test_knowing_nothing_costs_the_log_of_the_vocabulary():
  nothing = np.zeros_like(LOGITS)
  for loss in (masked.masked_tokens, language.next_token):
    np.testing.assert_allclose(loss(nothing, TOKENS), np.log(7), rtol=1e-6)
  np.testing.assert_allclose(language.bag_of_words(nothing[:, 0], TOKENS), np.log(7), rtol=1e-6)


def test_any_negative_label_is_left_out():
  labels = np.where(TOKENS > 3, TOKENS, -1)
  ours = masked.masked_tokens(LOGITS, np.where(labels < 0, -100, labels))
  np.testing.assert_array_equal(ours, masked.masked_tokens(LOGITS, labels))


def test_a_token_is_asked_for_before_it_is_read():
  """So that the losses of tokens hidden one by one add up to those of the next tokens."""
  by_token = [
    masked.masked_tokens(LOGITS[:, :-1], np.where(np.arange(1, 5) == t, TOKENS[:, 1:], -1))
    for t in range(1, 5)
  ]
  ours = language.next_token(LOGITS, TOKENS)
  np.testing.assert_allclose(ours, np.mean(by_token, 0), rtol=1e-6)


def test_what_follows_the_last_token_is_not_asked_for():
  grad = jax.grad(lambda logits: jnp.sum(language.next_token(logits, TOKENS)))(LOGITS)
  assert (grad[:, :-1] != 0).all() and (grad[:, -1] == 0).all()


def test_padding_of_captions_does_not_matter():
  longer = np.pad(TOKENS + 1, ((0, 0), (0, 3)))
  logits = np.concatenate([np.pad(LOGITS, ((0, 0), (0, 0), (0, 1))), np.ones((6, 3, 8))], 1)
  ours = language.captioning(logits, longer)
  np.testing.assert_allclose(ours, language.captioning(logits[:, :5], longer[:, :5]), rtol=1e-6)


def test_a_bag_of_words_has_neither_order_nor_number():
  logits = LOGITS[:, 0]
  twice = np.concatenate([TOKENS[:, ::-1], TOKENS, np.full((6, 2), -1)], 1)
  ours = language.bag_of_words(logits, twice)
  np.testing.assert_allclose(ours, language.bag_of_words(logits, TOKENS), rtol=1e-6)


def test_a_known_bag_of_words_costs_the_log_of_its_size():
  there = (TOKENS[:, :, None] == np.arange(7)).any(1)
  ours = language.bag_of_words(np.where(there, 50, 0), TOKENS)
  np.testing.assert_allclose(ours, np.log(there.sum(1)), rtol=1e-6)


@pytest.mark.parametrize("loss", [masked.masked_tokens, language.next_token])
def test_mismatched_tokens_are_named(loss):
  with pytest.raises(ValueError, match=r"\(6, 5, 7\).*\(6, 4\)"):
    loss(LOGITS, TOKENS[:, 1:])
  with pytest.raises(ValueError, match=r"\(6, 7\).*\(6, 5\)"):
    loss(LOGITS[:, 0], TOKENS)


def test_a_bag_of_another_batch_is_an_error():
  with pytest.raises(ValueError, match=r"\(6, 7\).*\(4, 5\)"):
    language.bag_of_words(LOGITS[:, 0], TOKENS[:4])
