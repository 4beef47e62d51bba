"""Whitening is scikit-learn's between two normalisations; concatenation keeps examples together."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from repjax.evaluate import Embedded, concatenated, whitened

RNG = np.random.default_rng(0)


def split(size, dim):
  x = RNG.normal(size=(size, dim)) * np.linspace(0.2, 3, dim)[None] + 1
  return Embedded(x.astype(np.float32), RNG.integers(0, 3, size).astype(np.int32))


@pytest.mark.parametrize(("size", "dim"), [(50, 9), (20, 40)])
@pytest.mark.parametrize("power", [1.0, 0.5])
def test_features_are_those_of_scikit_learn_up_to_signs(size, dim, power):
  train, test = split(size, dim), split(30, dim)
  pca = PCA(7, whiten=True, svd_solver="full").fit(normalize(train.features.astype(np.float64)))
  for ours, x in zip(whitened(train, test, count=7, power=power), (train, test), strict=True):
    theirs = pca.transform(normalize(x.features.astype(np.float64)))
    theirs = normalize(np.sign(theirs) * np.abs(theirs) ** power)
    np.testing.assert_allclose(np.abs(ours.features), np.abs(theirs), atol=1e-5)
    cosine = ours.features @ ours.features.T
    np.testing.assert_allclose(cosine, theirs @ theirs.T, atol=1e-5)
    np.testing.assert_array_equal(ours.label, x.label)


def test_lengths_of_features_change_nothing():
  train, test = split(50, 6), split(10, 6)
  longer = lambda x: x._replace(features=x.features * np.float32(2) ** (x.label[:, None] + 1))
  for one, other in zip(
    whitened(train, test, count=4),
    whitened(longer(train), longer(test), count=4),
    strict=True,
  ):
    np.testing.assert_allclose(one.features, other.features, atol=1e-6)


def test_parts_lie_side_by_side_and_must_be_of_the_same_examples():
  one = split(8, 3)
  other = Embedded(RNG.normal(size=(8, 5)).astype("f"), one.label)
  both = concatenated(one, other)
  np.testing.assert_array_equal(both.features[:, 3:], other.features)
  np.testing.assert_array_equal(both.label, one.label)
  with pytest.raises(ValueError, match=r"labels of .* that differ"):
    concatenated(one, other._replace(label=1 - other.label))


def test_a_count_out_of_range_is_named():
  with pytest.raises(ValueError, match=r"count=9 and power=1.0 of 50 examples of dim 6.* 1 to 6"):
    whitened(split(50, 6), split(5, 6), count=9)
