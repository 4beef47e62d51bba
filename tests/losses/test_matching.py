"""Laws of image-text matching: what is drawn, limits, minima, errors that name shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import P
from scipy.optimize import linear_sum_assignment

from repjax.losses import masked, matching
from repjax.train.mesh import make_mesh

RNG = np.random.default_rng(0)
IMAGES, TEXTS = RNG.normal(size=(2, 8, 6)).astype(np.float32)
LABELS = np.array([0, 0, 1, 1, 2, 3, -1, -1], np.int32)
WHERE = np.array([True, True, False, True, True, True, True, False])
WORDS = RNG.normal(size=(3, 5, 4)).astype(np.float32)
REGIONS = RNG.normal(size=(3, 5, 4)).astype(np.float32)
KEY = jax.random.key(0)


def many_draws(number, **options):
  keys = jax.random.split(KEY, number)
  draw = lambda key: matching.hard_negatives(key, IMAGES, TEXTS, **options)
  return np.asarray(jax.jit(jax.vmap(draw))(keys))


def allowed(labels, where):
  """Which partners each row may draw."""
  out = ~np.eye(8, dtype=bool) & where & where[:, None]
  return out & ~((labels == labels[:, None]) & (labels >= 0))


def test_negatives_are_drawn_by_the_softmax_of_similarities():
  drawn = many_draws(4000, temperature=0.5)
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  odds = np.exp(unit(IMAGES) @ unit(TEXTS).T / 0.5) * ~np.eye(8, dtype=bool)
  odds /= odds.sum(1, keepdims=True)
  frequency = (drawn[..., None] == np.arange(8)).mean(0)
  np.testing.assert_allclose(frequency, odds, atol=4 * np.sqrt(0.25 / 4000))


def test_no_positive_and_nothing_left_out_is_drawn():
  drawn = many_draws(500, temperature=1.0, labels=LABELS, where=WHERE)
  seen = (drawn[..., None] == np.arange(8)).any(0)
  np.testing.assert_array_equal(seen, allowed(LABELS, WHERE))
  assert (drawn[:, ~WHERE] == -1).all()


def test_a_low_temperature_draws_the_hardest_negative():
  drawn = matching.hard_negatives(KEY, IMAGES, TEXTS, temperature=1e-4)
  similarity = IMAGES @ (TEXTS / np.linalg.norm(TEXTS, axis=1, keepdims=True)).T
  np.testing.assert_array_equal(drawn, np.argmax(similarity - 1e9 * np.eye(8), 1))


@pytest.mark.parametrize("devices", [2, 8])
def test_negatives_do_not_depend_on_the_layout(devices):
  draw = lambda a, b, labels, where, axis_name=None: matching.hard_negatives(
    KEY, a, b, labels=labels, where=where, axis_name=axis_name
  )
  mesh = make_mesh(f"data:{devices}", devices=jax.devices()[:devices])
  shard = jax.shard_map(
    lambda *x: draw(*x, axis_name="data"), mesh=mesh, in_specs=P("data"), out_specs=P("data")
  )
  args = IMAGES, TEXTS, LABELS, WHERE
  np.testing.assert_array_equal(shard(*args), draw(*args))


def test_a_lone_pair_has_no_negative():
  assert matching.hard_negatives(KEY, IMAGES[:1], TEXTS[:1]) == -1
  one_class = matching.hard_negatives(KEY, IMAGES, TEXTS, labels=np.zeros(8, int))
  assert (one_class == -1).all()


def test_negatives_that_are_not_there_do_not_count():
  positive, negatives = RNG.normal(size=4), RNG.normal(size=(4, 2))
  ours = matching.image_text_matching(positive, negatives, mask=np.zeros((4, 2), bool))
  np.testing.assert_allclose(ours, np.log1p(np.exp(-positive)), rtol=1e-5)
  ours = matching.image_text_matching(positive, negatives, mask=np.array([[True, False]] * 4))
  wanted = matching.image_text_matching(positive, negatives[:, :1])
  np.testing.assert_allclose(ours, wanted, rtol=1e-6)


def test_guessing_costs_log_2():
  ours = matching.image_text_matching(np.zeros(4), np.zeros((4, 3)))
  np.testing.assert_allclose(ours, np.log(2), rtol=1e-6)


def test_alignment_tends_to_the_exact_optimal_transport():
  """Between as many words as regions, an optimal plan is a permutation."""
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  cost = 1 - unit(WORDS) @ unit(REGIONS).swapaxes(1, 2)
  best = [c[linear_sum_assignment(c)].mean() for c in cost]
  ours = matching.word_region_alignment(WORDS, REGIONS, beta=0.1, iterations=2000)
  np.testing.assert_allclose(ours, best, rtol=1e-4)


def test_words_that_are_the_regions_in_another_order_are_aligned_for_nothing():
  ours = matching.word_region_alignment(WORDS, 3 * WORDS[:, ::-1], beta=0.1, iterations=500)
  np.testing.assert_allclose(ours, 0, atol=1e-5)


def test_alignment_does_not_see_padding():
  longer = [
    np.pad(x, ((0, 0), (0, n), (0, 0)), constant_values=7) for x, n in ((WORDS, 2), (REGIONS, 3))
  ]
  masks = {"word_mask": np.arange(7) < np.full((3, 1), 5)}
  masks["region_mask"] = np.arange(8) < np.full((3, 1), 5)
  ours = matching.word_region_alignment(*longer, **masks)
  np.testing.assert_allclose(ours, matching.word_region_alignment(WORDS, REGIONS), rtol=1e-5)


def test_alignment_runs_in_a_shard_map():
  mesh = make_mesh("data:3", devices=jax.devices()[:3])
  run = jax.grad(lambda words, regions: jnp.sum(matching.word_region_alignment(words, regions)))
  shard = jax.shard_map(run, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
  np.testing.assert_allclose(shard(WORDS, REGIONS), run(WORDS, REGIONS), rtol=1e-5, atol=1e-7)


def test_soft_labels_that_are_hard_are_those_of_a_language_model():
  logits, mask = WORDS, RNG.random((3, 5)) < 0.5
  labels = RNG.integers(4, size=(3, 5))
  ours = matching.masked_soft_labels(logits, np.eye(4)[labels], mask)
  wanted = masked.masked_tokens(logits, np.where(mask, labels, -1))
  np.testing.assert_allclose(ours, wanted, rtol=1e-5)


def test_soft_labels_that_are_predicted_cost_nothing():
  ours = matching.masked_soft_labels(WORDS, jax.nn.softmax(WORDS), np.ones((3, 5), bool))
  np.testing.assert_allclose(ours, 0, atol=1e-6)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: matching.hard_negatives(KEY, IMAGES, TEXTS[:4]), r"\(8, 6\).*\(4, 6\)"),
    (lambda: matching.image_text_matching(np.ones(4), np.ones(4)), r"\(4,\).*\(4,\)"),
    (
      lambda: matching.image_text_matching(IMAGES[:, 0], TEXTS, mask=WHERE[:, None]),
      r"\(8, 6\).*\(8, 1\)",
    ),
    (lambda: matching.word_region_alignment(WORDS, REGIONS[..., :2]), r"\(3, 5, 4\).*\(3, 5, 2\)"),
    (
      lambda: matching.word_region_alignment(WORDS, REGIONS, word_mask=np.ones((3, 4), bool)),
      r"\(3, 5, 4\).*\(3, 4\)",
    ),
    (
      lambda: matching.masked_soft_labels(WORDS, WORDS, np.ones((3, 4), bool)),
      r"\(3, 5\).*\(3, 4\)",
    ),
  ],
)
def test_mismatched_shapes_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
