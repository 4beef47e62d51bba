"""Laws and closed forms of the losses of single pairs, and what other libraries answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from libraries import answers, check_answer

from repjax.losses import pair_losses
from repjax.losses.distances import cosine_distance, euclidean
from repjax.losses.labelled import labelled_pairs

RNG = np.random.default_rng(0)
EMBEDDINGS, LABELS = RNG.normal(size=(14, 6)).astype(np.float32), np.arange(14) % 4
BY_MARGIN = (
  pair_losses.contrastive_margin,
  pair_losses.margin_loss,
  pair_losses.snr_contrastive,
)


def over_pairs(loss, **options):
  """Mean over the positive pairs of the batch, plus that over the negative ones."""

  def of(embeddings, labels, weights=1):
    _, *kinds = labelled_pairs(embeddings, labels, distance=euclidean)
    total = 0
    for kind in kinds:
      kind *= weights
      counts = jnp.sum(kind, 1)
      total += jnp.sum(counts * loss(embeddings, labels, kind, **options)) / jnp.sum(counts)
    return total

  return of


def margin_over_triplets(embeddings, labels, beta):
  """All triplets, divided by how many of their pairs are not 0, as pytorch-metric-learning has."""
  d, positive, negative = labelled_pairs(embeddings, labels, distance=euclidean, normalize=True)
  boundary = beta[labels][:, None]
  p, n = jnp.sum(positive, 1), jnp.sum(negative, 1)
  far = jnp.sum(positive * (d - boundary + 0.2 > 0), 1)
  near = jnp.sum(negative * (boundary - d + 0.2 > 0), 1)
  values = pair_losses.margin_loss(embeddings, labels, beta, nu=0.1)
  return jnp.sum(p * n * values) / jnp.sum(n * far + p * near)


MARGINS = {"positive_margin": 0.2, "negative_margin": 1.1, "normalize": True}
# What other libraries answer, by the name of the answer.
SAME_AS = {
  "given": lambda **arrays: jnp.mean(
    pair_losses.contrastive_pairs(**arrays, negative_margin=0.5, distance=cosine_distance)
  ),
  "contrastive": over_pairs(pair_losses.contrastive_margin, power=1, **MARGINS),
  "snr": over_pairs(pair_losses.snr_contrastive, **MARGINS),
  "margin": margin_over_triplets,
  "variance": lambda embeddings, labels: pair_losses.intra_pair_variance(
    embeddings, labels, positive_epsilon=0.02, negative_epsilon=0.05
  ),
}


@pytest.mark.parametrize("answer", answers("pair_losses"))
def test_loss_equals_another_library(answer):
  check_answer("pair_losses", answer, SAME_AS[answer.rpartition("_")[0]])


@pytest.mark.parametrize("loss", BY_MARGIN)
def test_a_mask_of_everything_changes_nothing(loss):
  everything = np.ones((14, 14), bool)
  ours = loss(EMBEDDINGS, LABELS, weights=everything)
  np.testing.assert_allclose(ours, loss(EMBEDDINGS, LABELS), rtol=1e-6)


@pytest.mark.parametrize("loss", BY_MARGIN)
def test_scaling_all_weights_changes_nothing(loss):
  weights = RNG.uniform(0.5, 2, (14, 14)).astype(np.float32)
  ours = loss(EMBEDDINGS, LABELS, weights=3 * weights)
  np.testing.assert_allclose(ours, loss(EMBEDDINGS, LABELS, weights=weights), rtol=1e-5)


def test_pairs_of_a_batch_are_given_pairs():
  labels = np.array([0, 0, 1])
  ours = pair_losses.contrastive_margin(EMBEDDINGS[:3], labels, negative_margin=5.0)
  first, others = EMBEDDINGS[[0, 0]], EMBEDDINGS[1:3]
  same = np.array([True, False])
  wanted = pair_losses.contrastive_pairs(first, others, same, negative_margin=5.0)
  np.testing.assert_allclose(ours[0], wanted[0] + wanted[1], rtol=1e-5)


def test_hadsell_of_equal_points():
  z, same = np.ones((2, 3), np.float32), np.array([True, False])
  ours = pair_losses.contrastive_pairs(z, z, same, negative_margin=3.0)
  np.testing.assert_allclose(ours, [0, 4.5])


def test_margin_loss_is_a_contrastive_loss_around_its_boundary():
  ours = pair_losses.margin_loss(EMBEDDINGS, LABELS, 1.3, margin=0.25)
  options = {"positive_margin": 1.05, "negative_margin": 1.55, "power": 1, "normalize": True}
  wanted = pair_losses.contrastive_margin(EMBEDDINGS, LABELS, **options)
  np.testing.assert_allclose(ours, wanted, rtol=1e-5)


def test_a_boundary_moves_by_its_pairs():
  """Each positive beyond it pulls it up, each negative within it pushes it down."""
  d = np.asarray(euclidean(EMBEDDINGS, EMBEDDINGS))
  same = LABELS[:, None] == LABELS[None, :]
  up = (same & (d > 3.0 - 0.2) & (d > 0)).sum(1) / (same.sum(1) - 1)
  down = (~same & (d < 3.0 + 0.2)).sum(1) / (~same).sum(1)
  total = lambda beta: jnp.sum(pair_losses.margin_loss(EMBEDDINGS, LABELS, beta, normalize=False))
  ours = jax.grad(total)(jnp.full(4, 3.0))
  wanted = [np.sum((down - up)[k == LABELS]) for k in range(4)]
  np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6)


def test_equal_cosines_have_no_variance():
  # The corners of a simplex: all cosines are -1/3.
  corners = (np.eye(4) - 0.25).astype(np.float32)
  options = {"positive_epsilon": 0.0, "negative_epsilon": 0.0}
  ours = pair_losses.intra_pair_variance(corners, np.array([0, 0, 1, 1]), **options)
  np.testing.assert_allclose(ours, 0, atol=1e-12)


def test_noise_to_signal_of_lengths_does_not_change():
  ours = pair_losses.snr_contrastive(EMBEDDINGS, LABELS)
  scaled = pair_losses.snr_contrastive(100 * EMBEDDINGS + 3, LABELS)
  np.testing.assert_allclose(scaled, ours, rtol=1e-4)


def test_instances_of_an_empty_classifier_are_a_guess():
  z = EMBEDDINGS[:3]
  ours = pair_losses.instance_loss(z, z, np.arange(3), np.zeros((9, 6), np.float32))
  np.testing.assert_allclose(ours, 2 * np.log(9), rtol=1e-6)


def test_cosines_can_be_the_distance():
  ours = pair_losses.contrastive_margin(EMBEDDINGS, LABELS, distance=cosine_distance)
  scaled = pair_losses.contrastive_margin(9 * EMBEDDINGS, LABELS, distance=cosine_distance)
  np.testing.assert_allclose(scaled, ours, rtol=1e-5)


@pytest.mark.parametrize("loss", BY_MARGIN)
def test_mismatched_weights_name_both_shapes(loss):
  with pytest.raises(ValueError, match=r"\(14, 14\).*\(14, 13\)"):
    loss(EMBEDDINGS, LABELS, weights=np.ones((14, 13)))


def test_mismatched_classifiers_name_both_shapes():
  z = EMBEDDINGS
  with pytest.raises(ValueError, match=r"\(14, 6\).*\(9, 5\)"):
    pair_losses.instance_loss(z, z, LABELS, np.zeros((9, 5)))


def test_a_boundary_per_image_is_an_error():
  with pytest.raises(ValueError, match=r"beta of shape \(\) or \[classes\], got \(14, 1\)"):
    pair_losses.margin_loss(EMBEDDINGS, LABELS, np.ones((14, 1)))
