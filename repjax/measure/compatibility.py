"""Whether new models can query what old models have indexed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32


class Compatibility(NamedTuple):
  """What a matrix of query models against gallery models says.

  Attributes:
    kept: ``[models, models]`` bool, pairs of a newer query model (row) and an older gallery model
      (column) that meet the criterion; False on and above the diagonal.
    average_compatibility: share of all such pairs, in [0, 1]; 1 for a single model.
    average_accuracy: mean over the diagonal and below: each model on galleries of its own and of
      those before.
  """

  kept: jax.Array
  average_compatibility: jax.Array
  average_accuracy: jax.Array


def compatibility(accuracy: jax.Array) -> Compatibility:
  r"""The criterion of compatible models over a sequence of updates.

  .. math:: \mathrm{AC} = \frac{2}{T (T - 1)} \sum_{i > j} [M_{ij} > M_{jj}]

  An update is worth making without indexing again if queries by the new model find more in the old
  gallery than the old queries did. The improvement has to be strict.

  Args:
    accuracy: ``[T, T]``, at ``[i, j]`` that of queries by model i in a gallery by model j, models
      in the order of training.

  Returns:
    Pairs and both averages.

  Raises:
    ValueError: if ``accuracy`` is not square.

  References:
    Shen et al., `Towards Backward-Compatible Representation Learning
    <https://arxiv.org/abs/2003.11942>`_, 2020, eq. 3 (the criterion of a pair).
    Biondi et al., `CL2R: Compatible Lifelong Learning Representations
    <https://arxiv.org/abs/2211.09032>`_, 2022 (average compatibility and accuracy);
    ``compatibility_metrics.py`` of https://github.com/miccunifi/iamcl2r, whose average accuracy
    leaves out entries that are 0.
  """
  shape = jnp.shape(accuracy)
  if len(shape) != 2 or shape[0] != shape[1]:
    raise ValueError(f"expected accuracy [models, models], queries by row, got {shape}")
  matrix = at_least_float32(accuracy)
  newer = jnp.tril(jnp.ones(shape, bool), -1)
  kept = newer & (matrix > jnp.diagonal(matrix)[None])
  pairs = shape[0] * (shape[0] - 1) / 2
  share = jnp.sum(kept) / pairs if pairs else jnp.ones(())
  own = newer | jnp.eye(shape[0], dtype=bool)
  return Compatibility(kept, share.astype(matrix.dtype), jnp.mean(matrix, where=own))
