"""Label propagation: scikit-learn's spreading, the closed form, labels that stay in their part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.semi_supervised import LabelSpreading

from repjax import heads

RNG = np.random.default_rng(0)
CLASSES = 3
X = (RNG.normal(size=(60, 4)) + 2 * np.repeat(np.eye(4)[:3], 20, 0)).astype(np.float32)
Y = np.where(np.arange(60) % 10 < 2, np.arange(60) // 20, -1).astype(np.int32)
propagate = jax.jit(heads.propagate_labels, static_argnames=("classes", "max_steps"))


def graph():
  return heads.knn_graph(jnp.asarray(X), 5, exponent=2.0, rows=16)


def dense():
  """The graph's weights in float64, from the features."""
  z = X.astype(float) / np.linalg.norm(X.astype(float), axis=1, keepdims=True)
  cosine = z @ z.T
  np.fill_diagonal(cosine, -np.inf)
  nearest = np.argsort(-cosine, 1)[:, :5]
  w = np.zeros((60, 60))
  for i, others in enumerate(nearest):
    w[i, others] = np.maximum(cosine[i, others], 0) ** 2
  return (w + w.T) / 2


@pytest.mark.parametrize("alpha", [0.2, 0.9])
def test_shares_of_classes_are_those_of_scikit_learns_spreading(alpha):
  ours = np.asarray(propagate(graph(), Y, classes=CLASSES, alpha=alpha))
  theirs = LabelSpreading(kernel=lambda *_: dense(), alpha=alpha, tol=1e-10, max_iter=2000)
  theirs.fit(X, Y)
  shares = ours / ours.sum(1, keepdims=True)
  np.testing.assert_allclose(shares, theirs.label_distributions_, rtol=1e-3, atol=1e-4)
  np.testing.assert_array_equal(ours.argmax(1), theirs.transduction_)


def test_scores_are_the_closed_form_in_float64():
  w = dense()
  scale = w.sum(1) ** -0.5
  matrix = np.eye(60) - 0.99 * scale[:, None] * w * scale[None]
  given = (Y[:, None] == np.arange(CLASSES)[None]).astype(float)
  expected = 0.01 * np.linalg.solve(matrix, given)
  ours = propagate(graph(), Y, classes=CLASSES, alpha=0.99)
  np.testing.assert_allclose(ours, expected, rtol=2e-3, atol=1e-5)


def test_labels_reach_their_own_part_of_the_graph_alone():
  neighbor = jnp.asarray([[1], [2], [0], [4], [3], [5]])  # two parts, and one that is alone
  weight = jnp.asarray([1.0, 1, 1, 1, 1, 0])[:, None]
  labels = jnp.asarray([0, -1, -1, -1, 1, -1])
  scores = np.asarray(propagate(heads.Graph(neighbor, weight), labels, classes=2))
  assert (scores[:3, 0] > 0).all() and (scores[3:5, 1] > 0).all()
  np.testing.assert_array_equal(scores[:3, 1], 0)
  np.testing.assert_array_equal(scores[3:5, 0], 0)
  np.testing.assert_array_equal(scores[5], 0)


def test_no_weight_of_neighbours_leaves_the_labels():
  given = (Y[:, None] == np.arange(CLASSES)[None]).astype(float)
  np.testing.assert_allclose(propagate(graph(), Y, classes=CLASSES, alpha=0.0), given, atol=1e-6)


def test_misshapen_labels_name_all_shapes():
  with pytest.raises(ValueError, match=r"\(60, 5\), \(60, 5\) and \(59,\)"):
    heads.propagate_labels(graph(), Y[1:], classes=CLASSES)
