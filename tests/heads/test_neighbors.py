"""Nearest others: scikit-learn's, without oneself."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from repjax.heads import mine_neighbors

RNG = np.random.default_rng(0)


def test_neighbors_are_those_of_scikit_learn_without_oneself():
  x = RNG.normal(size=(40, 5)).astype(np.float32)
  theirs = NearestNeighbors(n_neighbors=4, metric="cosine").fit(x).kneighbors()[1]
  np.testing.assert_array_equal(mine_neighbors(jnp.asarray(x), 4, rows=16), theirs)
  with pytest.raises(ValueError, match="k=40 neighbours of 40 examples"):
    mine_neighbors(jnp.asarray(x), 40)
