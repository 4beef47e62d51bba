"""Compatibility of models: the criterion pair by pair, and the mean of what is below."""

import jax
import numpy as np
import pytest

from repjax.evaluate import Embedded, cross_retrieval
from repjax.measure import compatibility

MATRIX = np.array([[0.5, 0.0, 0.0], [0.6, 0.7, 0.0], [0.5, 0.8, 0.9]], np.float32)


def test_the_criterion_is_strict_and_counts_pairs_below_the_diagonal():
  found = jax.jit(compatibility)(MATRIX)
  np.testing.assert_array_equal(found.kept, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])  # 0.5 is not more
  np.testing.assert_allclose(found.average_compatibility, 2 / 3)
  np.testing.assert_allclose(found.average_accuracy, np.mean([0.5, 0.6, 0.7, 0.5, 0.8, 0.9]))


def test_a_model_that_finds_nothing_counts_in_the_mean():
  """The public code leaves out what is 0, and so does a matrix of whole failures well."""
  matrix = np.array([[0.5, 0.0], [0.0, 0.7]], np.float32)
  np.testing.assert_allclose(compatibility(matrix).average_accuracy, 1.2 / 3, rtol=1e-6)


def test_one_model_is_compatible_and_a_matrix_has_to_be_square():
  assert compatibility(MATRIX[:1, :1]).average_compatibility == 1
  with pytest.raises(ValueError, match=r"\[models, models\].*\(2, 3\)"):
    compatibility(MATRIX[:2])


def test_every_query_model_meets_every_gallery_model_in_their_common_dimensions():
  rng = np.random.default_rng(0)
  names = np.arange(6, dtype=np.int32)
  old = rng.normal(size=(6, 4)).astype(np.float32)
  grown = np.concatenate([old, 5 * rng.normal(size=(6, 3)).astype(np.float32)], 1)
  strange = rng.permutation(old)
  asked = np.where(names == 5, -1, names)
  galleries = [Embedded(x, names) for x in (old, grown, strange)]
  queries = [Embedded(x + 1e-3, asked) for x in (old, grown, strange)]
  matrix = cross_retrieval(queries, galleries)
  same = np.array([(old[i] == strange[i]).all() for i in range(5)]).mean()
  np.testing.assert_allclose(matrix, [[1, 1, same], [1, 1, same], [same, same, 1]])
  with pytest.raises(ValueError, match="galleries of the models are not of the same examples"):
    cross_retrieval(queries[:2], [galleries[0], Embedded(old, names[::-1])])
