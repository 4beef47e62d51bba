"""Laws and closed forms of the losses over a batch's pairs, and errors that name shapes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from definitions.contrastive import nt_xent
from libraries import answers, check_answer

from repjax import losses


def over_pairs(embeddings, labels, **options):
  """The mean over positive pairs, of a mean over each anchor's."""
  per_anchor = losses.multi_positive_info_nce(embeddings, labels, **options)
  pairs = jnp.sum(labels[:, None] == labels[None, :], 1) - 1
  return jnp.sum(per_anchor * pairs) / jnp.sum(pairs)


# What other libraries take the mean of, by the name of the answer.
SAME_AS = {
  "nt_xent_lightly": functools.partial(losses.nt_xent, temperature=0.2),
  "nt_xent_metric_learning": functools.partial(losses.nt_xent, temperature=0.2),
  "info_nce_metric_learning": functools.partial(losses.info_nce, temperature=0.2),
  "dcl_lightly": functools.partial(losses.dcl, temperature=0.2),
  "dclw_lightly": functools.partial(losses.dclw, temperature=0.2, sigma=0.4),
  "clip_open_clip": functools.partial(losses.clip, temperature=0.2),
  "siglip_open_clip": functools.partial(losses.siglip, temperature=0.2, bias=-2.0),
  "sup_con": functools.partial(losses.sup_con, temperature=0.2),
  "multi_positive": functools.partial(over_pairs, temperature=0.2),
}


@pytest.mark.parametrize("answer", answers("contrastive"))
def test_loss_equals_another_library(answer):
  loss = SAME_AS[answer.rpartition("_")[0]]
  by_position = lambda embeddings=None, labels=None, z_1=None, z_2=None: (
    loss(z_1, z_2) if labels is None else loss(embeddings, labels)
  )
  check_answer("contrastive", answer, lambda **arrays: jnp.mean(by_position(**arrays)))


@pytest.mark.parametrize("labels", [None, np.array([0, 1, 1, 2, 0, 3, 1])])
def test_multi_positive_info_nce_equals_optax(labels):
  labels = np.tile(np.arange(4), 2)[:7] if labels is None else labels
  z = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
  wanted = optax.losses.ntxent(z, labels, 0.2)
  np.testing.assert_allclose(over_pairs(z, labels, temperature=0.2), wanted, rtol=1e-5)


@pytest.mark.parametrize("loss", [losses.nt_xent, losses.dcl, losses.dclw])
def test_views_may_be_swapped(loss):
  z_1, z_2 = np.random.default_rng(0).normal(size=(2, 11, 6)).astype(np.float32)
  np.testing.assert_allclose(loss(z_1, z_2), loss(z_2, z_1), rtol=1e-5)


@pytest.mark.parametrize("loss", [losses.info_nce, losses.nt_xent, losses.dcl])
def test_lengths_of_inputs_do_not_matter(loss):
  rng = np.random.default_rng(0)
  views = rng.normal(size=(2, 11, 6)).astype(np.float32)
  lengths = 10 ** rng.uniform(-3, 3, (2, 11, 1)).astype(np.float32)
  np.testing.assert_allclose(loss(*(views * lengths)), loss(*views), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["out", "in"])
def test_sup_con_of_two_views_is_nt_xent(form):
  z_1, z_2 = np.random.default_rng(0).normal(size=(2, 11, 6)).astype(np.float32)
  both, labels = np.concatenate([z_1, z_2]), np.tile(np.arange(11), 2)
  ours = losses.sup_con(both, labels, temperature=0.5, form=form).reshape(2, 11).mean(0)
  np.testing.assert_allclose(ours, losses.nt_xent(z_1, z_2), rtol=1e-5)


def test_unicl_of_distinct_labels_is_clip():
  image, text = np.random.default_rng(0).normal(size=(2, 11, 6)).astype(np.float32)
  ours = losses.unicl(image, text, np.arange(11))
  np.testing.assert_allclose(ours, losses.clip(image, text), rtol=1e-5, atol=1e-6)


def test_soft_targets_of_one_key_are_info_nce():
  query, key = np.random.default_rng(0).normal(size=(2, 11, 6)).astype(np.float32)
  ours = losses.soft_target_info_nce(query, key, 3 * np.eye(11))
  np.testing.assert_allclose(ours, losses.info_nce(query, key), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [losses.clip, losses.siglip])
def test_images_and_texts_may_be_swapped_in_the_mean(loss):
  image, text = np.random.default_rng(0).normal(size=(2, 11, 6)).astype(np.float32)
  np.testing.assert_allclose(np.mean(loss(image, text)), np.mean(loss(text, image)), rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_nt_xent_of_equal_orthogonal_views_is_the_closed_form(temperature):
  z = np.eye(16, dtype=np.float32)
  # One partner at similarity 1, the 2 (n - 1) others at 0.
  wanted = np.log1p(30 * np.exp(-1 / temperature))
  ours = losses.nt_xent(z, z, temperature=temperature)
  np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=2e-6)


def test_nt_xent_of_one_collapsed_point_is_the_log_of_the_choices():
  z = np.ones((16, 8), np.float32)
  np.testing.assert_allclose(losses.nt_xent(z, z), np.log(31), rtol=1e-6)


def test_hardness_of_zero_strength_is_clip():
  query, key = np.random.default_rng(0).normal(size=(2, 11, 6)).astype(np.float32)
  ours = losses.hardness_weighted_info_nce(query, key, alpha=0.0, temperature=0.1)
  wanted = (losses.info_nce(query, key) + losses.info_nce(key, query)) / 2
  np.testing.assert_allclose(ours, wanted, rtol=1e-5)


def test_a_temperature_may_be_learned():
  z_1, z_2 = np.random.default_rng(0).normal(size=(2, 11, 6)).astype(np.float32)
  for tile_size in (0, 4):
    total = lambda t, s=tile_size: jnp.sum(losses.nt_xent(z_1, z_2, temperature=t, tile_size=s))
    up, down = nt_xent(z_1.astype(float), z_2, 0.3001), nt_xent(z_1.astype(float), z_2, 0.2999)
    np.testing.assert_allclose(jax.jit(jax.grad(total))(0.3), np.sum(up - down) / 2e-4, rtol=1e-4)


@pytest.mark.parametrize("shapes", [((16, 8), (16, 4)), ((16, 8), (12, 8)), ((2, 4, 8),) * 2])
@pytest.mark.parametrize("loss", [losses.info_nce, losses.nt_xent, losses.dcl, losses.dclw])
def test_mismatched_views_name_both_shapes(loss, shapes):
  message = ".*".join(str(shape).replace("(", r"\(").replace(")", r"\)") for shape in shapes)
  with pytest.raises(ValueError, match=message):
    loss(*map(np.zeros, shapes))


def test_labels_that_do_not_fit_are_named():
  z = np.zeros((16, 8), np.float32)
  with pytest.raises(ValueError, match=r"\(16, 8\) and \(12,\)"):
    losses.sup_con(z, np.zeros(12, int))
  with pytest.raises(ValueError, match="integer labels, got float32"):
    losses.sup_con(z, np.zeros(16, np.float32))
  with pytest.raises(ValueError, match="form='mid' is unknown"):
    losses.sup_con(z, np.zeros(16, int), form="mid")


def test_targets_that_do_not_fit_are_named():
  with pytest.raises(ValueError, match=r"shape \(3, 3\), got \(3, 4\)"):
    losses.soft_target_info_nce(np.ones((3, 2)), np.ones((3, 2)), np.ones((3, 4)))


def test_no_negatives_at_all_is_an_error():
  with pytest.raises(ValueError, match="in_batch=False leaves no negatives"):
    losses.info_nce(np.ones((3, 2)), np.ones((3, 2)), in_batch=False)
