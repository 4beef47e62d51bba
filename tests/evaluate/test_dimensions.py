"""Accuracy by dimension, and how variance is spread: scikit-learn, and features that are known."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from repjax.evaluate import (
  Embedded,
  accuracy_by_dimension,
  knn,
  knn_predictions,
  projected,
  variance_curve,
)


def drawn(size, seed):
  """Classes that lie apart along the last of eight dimensions alone, which varies most."""
  rng = np.random.default_rng(seed)
  label = rng.integers(0, 2, size).astype(np.int32)
  features = rng.normal(size=(size, 8)).astype(np.float32)
  features[:, 7] += 20 * label
  return Embedded(features, label)


def test_components_tell_classes_at_once_and_first_dimensions_at_the_end():
  train, test = drawn(200, 0), drawn(100, 1)
  sizes, kept = accuracy_by_dimension(*projected(train, test, count=8))
  np.testing.assert_array_equal(sizes, [1, 2, 4, 8])
  np.testing.assert_array_equal(kept[:2], 1)
  _, cut = accuracy_by_dimension(train, test)
  assert cut[:3].max() < 0.7 and cut[3] == 1
  whole = knn(train, test, k=(20,))["knn_20"]
  assert cut[3] == whole == kept[3]  # a turn changes no cosine
  (said,) = knn_predictions(train, test, k=(20,))
  assert np.mean(said == test.label) == whole


def test_a_size_beyond_the_width_names_both():
  train = drawn(50, 0)
  with pytest.raises(ValueError, match=r"\[9\].*1 to 8"):
    accuracy_by_dimension(train, train, sizes=[9])


def test_variances_are_those_of_scikit_learns_components():
  x = drawn(200, 0).features
  rank, share = variance_curve(x)
  np.testing.assert_allclose(10**share, PCA().fit(x).explained_variance_ratio_, rtol=1e-5)
  np.testing.assert_allclose(10**rank, range(1, 9))
