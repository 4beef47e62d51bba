"""Laws and closed forms of the losses over prototypes, and errors that name shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from definitions.prototypes import softmax
from libraries import answers, check_answer

from repjax.losses.assignments import sinkhorn
from repjax.losses.prototypes import msn, obow, obow_targets, pmsn, swav, update_word_distance


def swav_of_scores(scores):
  """With codes of the first two views, as lightly makes them."""
  assignments = jnp.stack([sinkhorn(x, epsilon=0.3) for x in scores[:2]])
  return jnp.mean(swav(scores, assignments, temperature=0.2))


# What lightly takes, by the name of the answer.
SAME_AS = {
  "swav_lightly": swav_of_scores,
  "msn_lightly": lambda **x: msn(**x, temperature=0.2),
  "msn_unbalanced_lightly": lambda **x: msn(
    **x, temperature=0.2, iterations=0, regularizer_weight=2.0
  ),
}
NAMES = [name for name in answers("prototype") if name.rpartition("_")[0] in SAME_AS]


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("answer", NAMES)
def test_loss_equals_lightly(answer):
  check_answer("prototype", answer, SAME_AS[answer.rpartition("_")[0]])


def test_swav_of_scores_without_preference_is_the_log_of_the_prototypes():
  assignments = np.random.default_rng(0).dirichlet(np.ones(7), (2, 5)).astype(np.float32)
  np.testing.assert_allclose(swav(np.ones((3, 5, 7)), assignments), np.log(7), rtol=1e-6)


def test_swav_is_least_where_predictions_equal_what_is_predicted():
  scores = normal(1, 5, 7).repeat(3, 0)
  targets = jax.nn.softmax(scores[:2] / 0.1)
  least = swav(scores, targets)
  np.testing.assert_allclose(least, jax.scipy.special.entr(targets[0]).sum(-1), rtol=1e-4)
  assert (swav(scores + 0.1 * normal(3, 5, 7, seed=1), targets) > least).all()


def test_a_view_does_not_predict_its_own_assignment():
  scores, assignments = normal(2, 5, 7), np.abs(normal(2, 5, 7, seed=1))
  grad = jax.grad(lambda a, b: jnp.sum(swav(jnp.stack([a, b]), assignments)), 0)(*scores)
  wanted = jax.grad(lambda a: jnp.sum(swav(jnp.stack([a, a]), assignments[[1, 1]])))(scores[0])
  np.testing.assert_allclose(grad, wanted / 2, rtol=1e-4, atol=1e-5)


def test_msn_is_pmsn_with_the_uniform_prior():
  anchors, targets, prototypes = normal(2, 8, 5), normal(8, 5, seed=1), normal(6, 5, seed=2)
  ours = pmsn(anchors, targets, prototypes, np.full(6, 1 / 6, np.float32))
  np.testing.assert_allclose(ours, msn(anchors, targets, prototypes), rtol=1e-6)


def test_the_regularizer_of_msn_is_zero_where_prototypes_are_used_equally():
  prototypes = np.eye(6, dtype=np.float32)
  anchors, targets = prototypes[None], prototypes
  with_it, without = (msn(anchors, targets, prototypes, regularizer_weight=w) for w in (1, 0))
  np.testing.assert_allclose(with_it, without, rtol=1e-6, atol=1e-6)
  # Six embeddings on one prototype cost nearly the log of six.
  anchors, targets = (x[..., :1, :].repeat(6, -2) for x in (anchors, targets))
  with_it, without = (msn(anchors, targets, prototypes, regularizer_weight=w) for w in (1, 0))
  assert 0.9 * np.log(6) < with_it - without < np.log(6)


@pytest.mark.parametrize("loss", [msn, pmsn])
def test_lengths_of_embeddings_and_prototypes_do_not_matter(loss):
  arrays = normal(2, 8, 5), normal(8, 5, seed=1), normal(6, 5, seed=2)
  lengths = [np.exp(3 * normal(*x.shape[:-1], 1, seed=3)) for x in arrays]
  scaled = [x * length for x, length in zip(arrays, lengths, strict=True)]
  np.testing.assert_allclose(loss(*scaled), loss(*arrays), rtol=1e-5)


def test_a_bag_of_well_separated_words_counts_each_word_that_occurs_once():
  vocabulary = 10 * np.eye(4, dtype=np.float32)
  features = vocabulary[np.array([[0, 0, 2], [3, 3, 3]])]
  wanted = [[0.5, 0, 0.5, 0], [0, 0, 0, 1]]
  np.testing.assert_allclose(obow_targets(features, vocabulary, 1.0), wanted, atol=1e-6)


def test_a_bag_of_words_forgets_the_scale_of_features_with_their_distance():
  features, vocabulary = normal(3, 9, 5), normal(6, 5, seed=1)
  distance = update_word_distance(0.0, features, vocabulary, momentum=0)
  scaled = update_word_distance(0.0, 7 * features, 7 * vocabulary, momentum=0)
  np.testing.assert_allclose(scaled, 49 * distance, rtol=1e-5)
  ours = obow_targets(7 * features, 7 * vocabulary, scaled)
  np.testing.assert_allclose(ours, obow_targets(features, vocabulary, distance), 1e-4, 1e-6)


def test_obow_is_least_at_the_targets():
  targets = np.stack([softmax(x) for x in normal(5, 7)])
  entropy = -np.sum(targets * np.log(targets), -1)
  np.testing.assert_allclose(obow(np.log(targets), targets), entropy, rtol=1e-5)


@pytest.mark.parametrize(
  ("loss", "shapes", "message"),
  [
    (swav, [(3, 5, 7), (2, 5, 6)], r"\(3, 5, 7\).*\(2, 5, 6\)"),
    (swav, [(2, 5, 7), (3, 5, 7)], r"as many or fewer views.*\(2, 5, 7\).*\(3, 5, 7\)"),
    (swav, [(1, 5, 7), (1, 5, 7)], "there is one view alone"),
    (msn, [(2, 8, 5), (8, 5), (6, 4)], r"\(2, 8, 5\).*\(8, 5\).*\(6, 4\)"),
    (pmsn, [(2, 8, 5), (8, 5), (6, 5), (5,)], r"\(6,\), got \(5,\)"),
    (obow, [(5, 7), (5, 6)], r"\(5, 7\).*\(5, 6\)"),
    (obow_targets, [(5, 9, 4), (6, 3), ()], r"\(5, 9, 4\).*\(6, 3\)"),
  ],
)
def test_mismatched_arrays_name_their_shapes(loss, shapes, message):
  with pytest.raises(ValueError, match=message):
    loss(*map(np.ones, shapes))
