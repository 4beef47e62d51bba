"""Losses that count the nats in which embeddings can be coded."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, l2_normalize
from repjax.losses.assignments import sinkhorn
from repjax.losses.layout import batch_sum, gather, kept, shards


def coding_rate(
  z: jax.Array,
  *,
  epsilon: float | jax.Array = 0.5,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Nats per example that it takes to code unit vectors up to a distortion.

  .. math:: R(Z) = \frac{1}{2} \log\det\Big(I + \frac{d}{n \epsilon^2} Z^\top Z\Big)

  for n unit vectors of d dimensions, the rows of Z. It measures the volume that they span, and
  grows as they spread out. Ding et al. leave out the 1/2.

  Args:
    z: embeddings, ``[batch, dim]``; normalised inside.
    epsilon: distortion, > 0; its square is what MCR2's code calls ``eps``.
    where: ``[batch]`` bool, embeddings that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Scalar float32, >= 0, the same on all shards; 0 if nothing takes part.

  Raises:
    ValueError: if ``z`` is not rank 2.

  References:
    Ma et al., `Segmentation of Multivariate Mixed Data via Lossy Data Coding and Compression
    <https://doi.org/10.1109/TPAMI.2007.1085>`_, 2007.
    Yu et al., `Learning Diverse and Discriminative Representations via the Principle of Maximal
    Coding Rate Reduction <https://arxiv.org/abs/2006.08558>`_, 2020.
  """
  z, keep = _unit(z, where)
  gram, count = batch_sum((_product("nd,ne->de", z, z), jnp.sum(keep)), axis_name)
  return _half_log_det(gram * z.shape[1] / (jnp.maximum(count, 1) * epsilon**2))


def coding_rate_reduction(
  z: jax.Array,
  membership: jax.Array,
  *,
  epsilon: float | jax.Array = 0.5,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Nats per example that are saved by coding each cluster on its own.

  .. math::
    \Delta R(Z, \Pi) = R(Z) - \sum_j \frac{n_j}{2 n}
      \log\det\Big(I + \frac{d}{n_j \epsilon^2} Z^\top \operatorname{diag}(\Pi_{\cdot j}) Z\Big),
      \qquad n_j = \sum_i \Pi_{ij}

  with R the `coding_rate`. The negative is the loss of MCR2, which pulls each cluster into a
  subspace of its own, orthogonal to the others, and spreads it out there.

  Args:
    z: embeddings, ``[batch, dim]``; normalised inside.
    membership: share of each example in each cluster, ``[batch, clusters]``, >= 0, rows that sum
      to 1.
    epsilon: distortion, > 0.
    where: ``[batch]`` bool, examples that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Scalar float32, >= 0, the same on all shards; to be maximised.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Yu et al., `Learning Diverse and Discriminative Representations via the Principle of Maximal
    Coding Rate Reduction <https://arxiv.org/abs/2006.08558>`_, 2020.
  """
  shapes = {"z": jnp.shape(z), "membership": jnp.shape(membership)}
  if [len(x) for x in shapes.values()] != [2, 2] or len({x[0] for x in shapes.values()}) > 1:
    raise ValueError(f"expected [batch, dim] and [batch, clusters], got {shapes}")
  whole = coding_rate(z, epsilon=epsilon, where=where, axis_name=axis_name)
  z, keep = _unit(z, where)
  weights = jnp.where(keep[:, None], at_least_float32(membership), 0)
  if axis_name is not None:
    # Each device takes an equal part of the clusters, with the weights of all examples.
    missing = -weights.shape[1] % shards(axis_name)
    weights = jnp.pad(weights, ((0, 0), (0, missing)))
    weights = lax.all_to_all(weights, axis_name, 1, 0, tiled=True)
  return whole - _rate_of_clusters(z, weights.T, keep, epsilon, axis_name)


def mlc(
  z: jax.Array,
  cluster_z: jax.Array,
  *,
  epsilon: float | jax.Array = 0.5,
  entropy_weight: float | jax.Array = 0.1,
  iterations: int = 50,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Manifold linearising and clustering: rate reduction by a doubly stochastic membership.

  .. math::
    \ell = -\frac{1}{2} \log\det\Big(I + \frac{d}{n \epsilon^2} Z^\top Z\Big) + \frac{1}{2 n}
      \sum_j \log\det\Big(I + \frac{d}{\epsilon^2} Z^\top \operatorname{diag}(\Gamma_j) Z\Big)

  Every example is the centre of a cluster, of which :math:`\Gamma_{ji}` says how much i belongs to
  it: the doubly stochastic matrix next to the cosines of the cluster head's outputs, as `sinkhorn`
  finds it. Its rows sum to 1 exactly, its columns after enough iterations. Clusters in the end are
  those of spectral clustering of it. This is half of the paper's value, which leaves out the 1/2;
  the defaults are ours and to be tuned.

  Args:
    z: embeddings by the feature head, ``[batch, dim]``; normalised inside.
    cluster_z: outputs of the cluster head, ``[batch, cluster_dim]``; normalised inside.
    epsilon: distortion, > 0.
    entropy_weight: :math:`\eta` of the projection, > 0; memberships are the sparser, the smaller.
    iterations: of `sinkhorn`.
    where: ``[batch]`` bool, examples that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Scalar float32, <= 0 where columns sum to 1 too, the same on all shards; 0 if nothing takes
    part.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Ding et al., `Unsupervised Manifold Linearizing and Clustering
    <https://arxiv.org/abs/2301.01805>`_, 2023, eq. 4 and section 3.1.
  """
  shapes = {"z": jnp.shape(z), "cluster_z": jnp.shape(cluster_z)}
  if [len(x) for x in shapes.values()] != [2, 2] or len({x[0] for x in shapes.values()}) > 1:
    raise ValueError(f"expected [batch, dim] and [batch, cluster_dim], got {shapes}")
  whole = coding_rate(z, epsilon=epsilon, where=where, axis_name=axis_name)
  z, keep = _unit(z, where)
  cluster_z, _ = _unit(cluster_z, where)
  others, real = gather((cluster_z, keep), axis_name)
  cosines = jnp.where(real[None], _product("nd,md->nm", cluster_z, others), -jnp.inf)
  options = {"epsilon": entropy_weight, "iterations": iterations}
  weights = sinkhorn(cosines, where=where, axis_name=axis_name, **options)
  return _rate_of_clusters(z, weights, keep, epsilon, axis_name) - whole


_product = functools.partial(jnp.einsum, precision="highest")


def _unit(z, where) -> tuple[jax.Array, jax.Array]:
  """Unit vectors, zero where left out, and which take part."""
  if jnp.ndim(z) != 2:
    raise ValueError(f"expected embeddings [batch, dim], got shape {jnp.shape(z)}")
  keep = kept(where, len(z))
  return l2_normalize(jnp.where(keep[:, None], at_least_float32(z), 0)), keep


def _rate_of_clusters(z, weights, keep, epsilon, axis_name) -> jax.Array:
  """Mean rate of an example within its cluster.

  Weights ``[clusters, examples]`` are of this shard's clusters and all shards' examples.
  """
  every, count = gather(z, axis_name), batch_sum(jnp.sum(keep), axis_name)

  # Recomputed in the backward pass, so that no [clusters, dim, dim] is kept.
  @jax.checkpoint
  def rate(weight):
    size = jnp.sum(weight)
    gram = _product("n,nd,ne->de", weight, every, every)
    gram *= z.shape[1] / (jnp.where(size > 0, size, 1) * epsilon**2)
    return size * _half_log_det(gram)

  few = max(1, 2**22 // z.shape[1] ** 2)  # Gram matrices at a time
  rates = lax.map(rate, weights, batch_size=min(len(weights), few))
  return batch_sum(jnp.sum(rates), axis_name) / jnp.maximum(count, 1)


def _half_log_det(gram) -> jax.Array:
  """Half the log-determinant of the identity plus a positive semidefinite matrix."""
  root = jnp.linalg.cholesky(jnp.eye(len(gram), dtype=gram.dtype) + gram)
  return jnp.sum(jnp.log(jnp.diagonal(root)))
