"""Properties of embeddings of relational tables: what does not matter should not, what does should.

Items are whatever a model embeds: columns, rows, cells or whole tables.
"""

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32, check_labels, check_same_shape, l2_normalize
from repjax.measure.ordering import rank_correlation


def order_sensitivity(embeddings: jax.Array) -> jax.Array:
  r"""How much items move if their table's rows or columns are permuted.

  .. math:: \sqrt{\frac{\mu^\top \Sigma \mu}{(\mu^\top \mu)^2}}

  of each item over the permutations: Albert and Zhang's multivariate coefficient of variation, the
  spread along the mean over its length. It does not see spread across the mean; take
  `mean_cosine` with it, as the paper does.

  Args:
    embeddings: ``[permutations, items, dim]``, two permutations or more.

  Returns:
    ``[items]`` float32, >= 0; 0 where order is insignificant. The covariance is unbiased.

  Raises:
    ValueError: if ``embeddings`` is not rank 3 or has one permutation.

  References:
    Cong et al., `Observatory: Characterizing Embeddings of Relational Tables
    <https://arxiv.org/abs/2310.07736>`_, 2023, section 3, properties 1 and 2.
    Albert and Zhang, `A novel definition of the multivariate coefficient of variation
    <https://doi.org/10.1002/bimj.201000030>`_, 2010.
  """
  shape = jnp.shape(embeddings)
  if len(shape) != 3 or shape[0] < 2:
    raise ValueError(f"expected [permutations, items, dim], two permutations or more, got {shape}")
  x = at_least_float32(embeddings)
  mean = jnp.mean(x, 0)
  along = jnp.sum((x - mean[None]) * mean[None], -1)  # the quadratic form without the covariance
  return jnp.sqrt(jnp.sum(along * along, 0) / (shape[0] - 1)) / jnp.sum(mean * mean, -1)


def mean_cosine(embeddings: jax.Array, reference: jax.Array) -> jax.Array:
  """Mean cosine of items with themselves in another version of their table.

  Permuted tables tell of order, sampled rows of sample fidelity (property 5), renamed columns or
  perturbed cells of robustness (7), tables with and without their neighbours of context (8).

  Args:
    embeddings: ``[items, dim]`` of the version.
    reference: ``[items, dim]`` of the original, row-aligned.

  Returns:
    Scalar float32 between -1 and 1.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Cong et al., `Observatory: Characterizing Embeddings of Relational Tables
    <https://arxiv.org/abs/2310.07736>`_, 2023, section 3.
  """
  check_same_shape(2, embeddings=embeddings, reference=reference)
  x, y = (l2_normalize(at_least_float32(z), eps=1e-30) for z in (embeddings, reference))
  return jnp.mean(jnp.sum(x * y, -1))


def join_correlation(query: jax.Array, candidate: jax.Array, overlap: jax.Array) -> jax.Array:
  """Whether columns that can be joined lie near: rank correlation of overlap and cosine.

  Args:
    query: ``[pairs, dim]``, the column that looks for a partner.
    candidate: ``[pairs, dim]``, a column of another table.
    overlap: ``[pairs]`` share of values in common, such as `containment` gives.

  Returns:
    Scalar float32 between -1 and 1.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Cong et al., `Observatory: Characterizing Embeddings of Relational Tables
    <https://arxiv.org/abs/2310.07736>`_, 2023, section 3, property 3.
  """
  check_same_shape(2, query=query, candidate=candidate)
  x, y = (l2_normalize(at_least_float32(z), eps=1e-30) for z in (query, candidate))
  return rank_correlation(jnp.sum(x * y, -1), overlap)


def containment(query: jax.Array, candidate: jax.Array) -> jax.Array:
  r"""Share of a column's distinct values that another has too, :math:`|A \cap B| / |A|`.

  Args:
    query: ``[..., values]`` boolean, which values of a vocabulary the column holds.
    candidate: same shape, of the other column.

  Returns:
    ``[...]`` float32 between 0 and 1; 0 for an empty column.
  """
  both = jnp.sum(query & candidate, -1, dtype=jnp.float32)
  return both / jnp.maximum(jnp.sum(query, -1, dtype=jnp.float32), 1)


def dependency_spread(
  determinant: jax.Array, dependent: jax.Array, groups: jax.Array, *, count: int
) -> jax.Array:
  r"""Whether a functional dependency is one translation: variance of its length within groups.

  .. math:: \frac1G \sum_g \mathrm{var}_{i \in g} \lVert e(y_i) - e(x_i) \rVert

  over the groups of rows that have one value x of the determinant, and so one y. An embedding that
  reflects the dependency has a smaller value than for a pair of columns without one; the value of
  one pair alone says nothing.

  Args:
    determinant: ``[n, dim]`` cells of x.
    dependent: ``[n, dim]`` cells of y, row-aligned.
    groups: ``[n]`` integers in ``[0, count)``, the value of x; -1 leaves a row out.
    count: number of groups.

  Returns:
    Scalar float32, >= 0; the mean over groups that have rows.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Cong et al., `Observatory: Characterizing Embeddings of Relational Tables
    <https://arxiv.org/abs/2310.07736>`_, 2023, section 3, property 4. The formula is from memory.
  """
  check_same_shape(2, determinant=determinant, dependent=dependent)
  check_labels(groups, determinant=determinant)
  length = jnp.linalg.norm(at_least_float32(dependent) - at_least_float32(determinant), axis=1)
  member = jax.nn.one_hot(groups, count, dtype=length.dtype)
  rows = jnp.sum(member, 0)
  mean = length @ member / jnp.maximum(rows, 1)
  gap = (length[:, None] - mean[None]) * member
  variance = jnp.sum(gap * gap, 0) / jnp.maximum(rows, 1)
  return jnp.sum(variance) / jnp.maximum(jnp.sum(rows > 0), 1)
