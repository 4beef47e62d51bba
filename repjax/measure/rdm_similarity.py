"""How alike two dissimilarity matrices are: the second step of RSA."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape
from repjax.measure.alignment import check_pair
from repjax.measure.dissimilarity import euclidean_rdm, geo_topological
from repjax.measure.kernels import centre_gram
from repjax.measure.ordering import rank_correlation


def rdm_cosine(rdm_1: jax.Array, rdm_2: jax.Array) -> jax.Array:
  """Cosine of two RDMs, for dissimilarities with a meaningful zero.

  Args:
    rdm_1: ``[pairs]``.
    rdm_2: ``[pairs]``, in the same order.

  Returns:
    Scalar in [-1, 1], at least float32; 0 where one is all 0.

  Raises:
    ValueError: if shapes differ or are not rank 1.

  References:
    The rsatoolbox authors, `rsatoolbox <https://github.com/rsagroup/rsatoolbox>`_, 2019, whose
    ``compare_cosine`` it is.
  """
  return _cosine(*_checked(rdm_1, rdm_2))


def rdm_pearson(rdm_1: jax.Array, rdm_2: jax.Array) -> jax.Array:
  """Correlation of two RDMs.

  Args:
    rdm_1: ``[pairs]``.
    rdm_2: ``[pairs]``, in the same order.

  Returns:
    Scalar in [-1, 1], at least float32; 0 where one is constant.

  Raises:
    ValueError: if shapes differ or are not rank 1.

  References:
    Kriegeskorte et al., `Representational similarity analysis - connecting the branches of systems
    neuroscience <https://doi.org/10.3389/neuro.06.004.2008>`_, 2008.
  """
  return _cosine(*(x - jnp.mean(x) for x in _checked(rdm_1, rdm_2)))


def rdm_spearman(rdm_1: jax.Array, rdm_2: jax.Array) -> jax.Array:
  """Correlation of the ranks of two RDMs, where a monotone relation is all that is assumed.

  Args:
    rdm_1: ``[pairs]``.
    rdm_2: ``[pairs]``, in the same order.

  Returns:
    Scalar in [-1, 1], at least float32, equal values at their mean rank; 0 where one is constant.

  Raises:
    ValueError: if shapes differ or are not rank 1.

  References:
    Kriegeskorte et al., `Representational similarity analysis - connecting the branches of systems
    neuroscience <https://doi.org/10.3389/neuro.06.004.2008>`_, 2008.
  """
  return rank_correlation(*_checked(rdm_1, rdm_2))


def rdm_kendall(rdm_1: jax.Array, rdm_2: jax.Array, *, rows: int = 512) -> jax.Array:
  r"""Kendall's tau-a of two RDMs: concordant less discordant pairs of pairs, over all of them.

  .. math::
    \frac{2}{m (m - 1)} \sum_{i < j} \mathrm{sign}(a_i - a_j) \, \mathrm{sign}(b_i - b_j)

  Ties count as 0 and are not corrected for, so that a model that predicts ties is not favoured.

  Args:
    rdm_1: ``[pairs]``, two or more.
    rdm_2: ``[pairs]``, in the same order.
    rows: how many are compared with all others at a time; memory holds ``[rows, pairs]``, time goes
      with the square of ``pairs``.

  Returns:
    Scalar in [-1, 1], at least float32.

  Raises:
    ValueError: if shapes differ, are not rank 1, or hold fewer than two.

  References:
    Nili et al., `A Toolbox for Representational Similarity Analysis
    <https://doi.org/10.1371/journal.pcbi.1003553>`_, 2014 (why tau-a).
  """
  a, b = _checked(rdm_1, rdm_2)
  size = len(a)
  if size < 2:
    raise ValueError(f"RDMs of shape {a.shape} hold no two pairs; give 3 examples or more")
  of_one = lambda own: jnp.mean(jnp.sign(own[0] - a) * jnp.sign(own[1] - b))
  means = lax.map(of_one, (a, b), batch_size=min(rows, size))
  return jnp.mean(means) * size / (size - 1)


def rdm_whitened_cosine(rdm_1: jax.Array, rdm_2: jax.Array) -> jax.Array:
  r"""Cosine of two RDMs, in units in which errors of their entries are uncorrelated.

  .. math::
    \frac{a^T V^{-1} b}{\sqrt{a^T V^{-1} a} \sqrt{b^T V^{-1} b}}

  with V the covariance of squared distances of noise alone, equal and independent for all examples:
  entries that share an example are correlated. It is linear CKA (biased) of the features, and is
  computed so, from :math:`-\frac{1}{2} H D H`.

  Args:
    rdm_1: ``[n (n - 1) / 2]`` squared Euclidean distances, as `euclidean_rdm` with ``squared`` has
      them, or crossvalidated ones, which may be negative.
    rdm_2: the same for another representation, in the same order.

  Returns:
    Scalar in [-1, 1], at least float32; 0 where one is all 0. Memory holds ``[n, n]``.

  Raises:
    ValueError: if shapes differ, are not rank 1, or are of no number of examples.

  References:
    Diedrichsen et al., `Comparing representational geometries using whitened unbiased-distance-
    matrix similarity <https://arxiv.org/abs/2007.02789>`_, 2021 (and its relation to CKA).
  """
  first, second = (_double_centred(x) for x in _checked(rdm_1, rdm_2))
  return _cosine(first, second)


def trsa(
  features_1: jax.Array,
  features_2: jax.Array,
  *,
  low: float | jax.Array,
  high: float | jax.Array,
  rank: bool = False,
  rdm: Callable[[jax.Array], jax.Array] = euclidean_rdm,
  similarity: Callable[[jax.Array, jax.Array], jax.Array] = rdm_pearson,
) -> jax.Array:
  """Topological RSA: similarity of geo-topological matrices of two representations.

  With ``low`` = 0 and ``high`` = 1 it is RSA, if ``similarity`` sees no offset and scale.

  Args:
    features_1: ``[n, dim_1]``, n >= 3.
    features_2: ``[n, dim_2]``, of the same examples in the same order.
    low: quantile up to which dissimilarities are made 0, as in `repjax.measure.geo_topological`.
    high: quantile from which they are made 1.
    rank: of ranks in place of dissimilarities.
    rdm: ``[n, dim] -> [n (n - 1) / 2]``.
    similarity: of two of them, a scalar.

  Returns:
    Scalar, at least float32.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Lin and Kriegeskorte, `The Topology and Geometry of Neural Representations
    <https://arxiv.org/abs/2309.11028>`_, 2023.
  """
  pair = (rdm(x) for x in check_pair(features_1, features_2))
  return similarity(*(geo_topological(d, low, high, rank=rank) for d in pair))


def _checked(rdm_1, rdm_2):
  shapes = {"rdm_1": jnp.shape(rdm_1), "rdm_2": jnp.shape(rdm_2)}
  if shapes["rdm_1"] != shapes["rdm_2"] or len(shapes["rdm_1"]) != 1:
    raise ValueError(f"expected condensed RDMs [n (n - 1) / 2] of the same examples, got {shapes}")
  return at_least_float32(rdm_1), at_least_float32(rdm_2)


def _cosine(x, y):
  scale = jnp.linalg.norm(x) * jnp.linalg.norm(y)
  return jnp.where(scale > 0, jnp.sum(x * y) / jnp.where(scale > 0, scale, 1), 0)


def _double_centred(condensed):
  size = round((1 + (1 + 8 * len(condensed)) ** 0.5) / 2)
  check_same_shape(1, rdm=condensed)
  if size * (size - 1) // 2 != len(condensed):
    raise ValueError(f"{len(condensed)} dissimilarities are not n (n - 1) / 2 of any n")
  upper = jnp.zeros((size, size), condensed.dtype)
  upper = upper.at[jnp.triu_indices(size, 1)].set(condensed)
  return centre_gram(-(upper + upper.T) / 2)
