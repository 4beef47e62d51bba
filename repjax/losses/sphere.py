"""Losses that keep partners close and everything else spread out, by kernels and moments."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize
from repjax.losses.layout import batch_sum, gather, kept
from repjax.losses.pairs import PairSums, log_sum_exp, pair_sums
from repjax.losses.partners import apart, both_kept, places


def alignment(
  z_1: jax.Array, z_2: jax.Array, *, alpha: float = 2.0, normalize: bool = True
) -> jax.Array:
  r"""Distance of partners.

  .. math:: \ell_i = \lVert z_i - z_i' \rVert^\alpha

  The mean over the batch is the first term of lightly's ``HypersphereLoss``.

  Args:
    z_1: first view, ``[batch, dim]``.
    z_2: second view, ``[batch, dim]``, row-aligned with ``z_1``.
    alpha: power of the distance, > 0.
    normalize: scale all vectors to unit length.

  Returns:
    Loss per pair, ``[batch]`` float32, >= 0; at most :math:`2^\alpha` for unit vectors.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Wang and Isola, `Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere <https://arxiv.org/abs/2005.10242>`_, 2020, section 4.
  """
  check_same_shape(2, z_1=z_1, z_2=z_2)
  unit = l2_normalize if normalize else lambda x: x
  z_1, z_2 = (unit(at_least_float32(z)) for z in (z_1, z_2))
  square = jnp.sum((z_1 - z_2) ** 2, -1)
  apart = square > 0
  return jnp.where(apart, jnp.where(apart, square, 1) ** (alpha / 2), 0)


def uniformity(
  z: jax.Array,
  *,
  t: float = 2.0,
  normalize: bool = True,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Logarithm of the mean Gaussian potential of two different examples.

  .. math:: L = \log \frac{1}{n (n - 1)} \sum_{i \neq j} \exp(-t \lVert z_i - z_j \rVert^2)

  The mean of two views' losses is the second term of lightly's ``HypersphereLoss``, whose t is 1;
  that of the paper is 2.

  Args:
    z: one view, ``[batch, dim]``.
    t: inverse width of the potential, > 0.
    normalize: scale all vectors to unit length.
    where: ``[batch]`` bool, rows that take part; all if absent.
    tile_size: edge of the tiles in which pairs are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Scalar float32, <= 0 and at least -4 t for unit vectors; 0 without a pair.

  Raises:
    ValueError: if ``z`` is not rank 2.

  References:
    Wang and Isola, `Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere <https://arxiv.org/abs/2005.10242>`_, 2020, section 4.
  """
  check_same_shape(2, z=z)
  z = at_least_float32(z)
  rows = _points(l2_normalize(z) if normalize else z, where, axis_name)
  shared = {"t": jnp.asarray(t, rows["z"].dtype)}
  terms = functools.partial(_potentials_of_others, precision=precision)
  options = {"tile_size": tile_size, "axis_name": axis_name}
  by_row = pair_sums(terms, rows, rows, shared, symmetric=True, **options).log_sums[0]
  total = log_sum_exp(gather(by_row, axis_name), 0)
  count = batch_sum(jnp.sum(rows["keep"], dtype=z.dtype), axis_name)
  pairs = jnp.maximum(count * (count - 1), 1)
  return jnp.where(count > 1, jnp.where(count > 1, total, 0) - jnp.log(pairs), 0)


def joint_entropy(
  common: jax.Array,
  salient: jax.Array,
  *,
  t: float = 1.0,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Negative joint entropy of two codes, by kernel densities.

  At given entropies of either code it is least where the two tell nothing of one another. With
  unit vectors :math:`c` and plain vectors :math:`s`,

  .. math::
    \ell_i = \log \frac{1}{n} \sum_j \exp(-t \lVert c_i - c_j \rVert^2)
      \exp(-t \lVert s_i - s_j \rVert^2)

  The mean over the batch is k-JEM of SepCLR's code, where :math:`t = 1 / (2 \tau)` with
  :math:`\tau = 0.5`; an example is among its own neighbours, as there. The other terms of SepCLR
  are `alignment` and `uniformity` of either code, with ``t=1`` and without normalisation for the
  salient one, whose background rows are set to 0 before.

  Args:
    common: code of what two data sets share, ``[batch, dim]``; normalised inside.
    salient: code of what only one has, ``[batch, other dim]``; as it is.
    t: inverse width of both kernels, > 0.
    where: ``[batch]`` bool, rows that take part; all if absent.
    tile_size: edge of the tiles in which pairs are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per example, ``[batch]`` float32, in [-log n, 0]; 0 where ``where`` is false.

  Raises:
    ValueError: if the two are not rank 2 of one length.

  References:
    Louiset et al., `Separating common from salient patterns with Contrastive Representation
    Learning <https://arxiv.org/abs/2402.11928>`_, 2024; code at
    https://github.com/neurospin-projects/2024_rlouiset_sep_clr.
  """
  shapes = {"common": jnp.shape(common), "salient": jnp.shape(salient)}
  if {len(s) for s in shapes.values()} != {2} or len({s[0] for s in shapes.values()}) > 1:
    raise ValueError(f"expected two [batch, dim] of one length, got {shapes}")
  common, salient = at_least_float32(common), at_least_float32(salient)
  # The two kernels multiply to one kernel of both codes side by side.
  both = jnp.concatenate([l2_normalize(common), salient], -1)
  rows = _points(both, where, axis_name)
  shared = {"t": jnp.asarray(t, both.dtype)}
  terms = functools.partial(_potentials_of_all, precision=precision)
  options = {"tile_size": tile_size, "axis_name": axis_name}
  by_row = pair_sums(terms, rows, rows, shared, symmetric=True, **options).log_sums[0]
  count = batch_sum(jnp.sum(rows["keep"], dtype=both.dtype), axis_name)
  loss = jnp.where(rows["keep"], by_row, 0) - jnp.log(jnp.maximum(count, 1))
  return jnp.where(rows["keep"], loss, 0)


def spectral_contrastive(
  z_1: jax.Array,
  z_2: jax.Array,
  *,
  mu: float | None = None,
  where: jax.Array | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Spectral contrastive loss: partners agree, different examples are orthogonal.

  .. math::
    \ell_i = -2 \langle z_i, z_i' \rangle
      + \frac{1}{n - 1} \sum_{j \neq i} \langle z_i, z_j' \rangle^2

  The mean over the batch is the unbiased estimate of the authors' code: pairs of one example are
  left out of the second term. That term is worked out from the second moments
  :math:`\sum_j z_j' z_j'^\top`, ``[dim, dim]``, and never from pairs.

  Args:
    z_1: first view, ``[batch, dim]``; not normalised.
    z_2: second view, ``[batch, dim]``, row-aligned with ``z_1``.
    mu: as in the authors' code, shorten vectors whose squared length exceeds ``mu``, and divide the
      loss by it; neither if absent, as in the paper.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per pair, ``[batch]`` float32, of any sign; 0 where ``where`` is false.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    HaoChen et al., `Provable Guarantees for Self-Supervised Deep Learning with Spectral Contrastive
    Loss <https://arxiv.org/abs/2106.04156>`_, 2021; code at
    https://github.com/jhaochenz96/spectral_contrastive_learning.
  """
  check_same_shape(2, z_1=z_1, z_2=z_2)
  z_1, z_2 = at_least_float32(z_1), at_least_float32(z_2)
  if mu is not None:
    z_1, z_2 = _at_most(z_1, mu), _at_most(z_2, mu)
  keep = kept(where, len(z_1))
  z_2 = jnp.where(keep[:, None], z_2, 0)
  moments = batch_sum(jnp.matmul(z_2.T, z_2, precision=precision), axis_name)
  count = batch_sum(jnp.sum(keep, dtype=z_1.dtype), axis_name)
  positive = jnp.sum(z_1 * z_2, -1)
  with_all = jnp.sum(jnp.matmul(z_1, moments, precision=precision) * z_1, -1)
  loss = (with_all - positive**2) / jnp.maximum(count - 1, 1) - 2 * positive
  return jnp.where(keep, loss if mu is None else loss / mu, 0)


def _at_most(z: jax.Array, mu: float) -> jax.Array:
  square = jnp.sum(z * z, -1, keepdims=True)
  long = square > mu
  return z * jnp.where(long, jnp.sqrt(mu / jnp.where(long, square, 1)), 1)


def _points(z, where, axis_name):
  return {
    "z": z,
    "square": jnp.sum(z * z, -1),
    **places(len(z), kept(where, len(z)), axis_name),
  }


def _potentials_of_all(row, column, shared, precision) -> PairSums:
  """Exponents of the potentials of all pairs of rows that take part."""
  square = row["square"][:, None] + column["square"][None, :]
  square -= 2 * jnp.matmul(row["z"], column["z"].T, precision=precision)
  itself = row["index"][:, None] == column["index"][None, :]
  # Rounding must not take a squared distance below 0, nor an example from itself.
  square = jnp.where(itself, 0, jnp.maximum(square, 0))
  return PairSums((both_kept(row, column, -shared["t"] * square, -jnp.inf),))


def _potentials_of_others(row, column, shared, precision) -> PairSums:
  (exponents,) = _potentials_of_all(row, column, shared, precision).log_sums
  return PairSums((jnp.where(apart(row, column), exponents, -jnp.inf),))
