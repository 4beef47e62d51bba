"""Batch norm as encoders have it."""

import functools
from typing import Any

from flax import linen as nn


def batch_norm(module: nn.Module, train: bool, **options: Any) -> functools.partial:
  """Makes the batch norms of a module; to be called inside of its compact method.

  Args:
    module: with ``momentum``, the share of running statistics kept at each step of training,
      ``axis_name``, the mapped axis that holds the other shards of a batch, and ``dtype``.
    train: whether norms use the batch's statistics, and update the running ones in the collection
      ``batch_stats``.
    **options: fields of `flax.linen.BatchNorm`.

  Returns:
    `flax.linen.BatchNorm`, to be given a ``name=``.
  """
  return functools.partial(
    nn.BatchNorm,
    use_running_average=not train,
    momentum=module.momentum,
    # Initialisation runs outside of any mapped axis.
    axis_name=None if module.is_initializing() else module.axis_name,
    dtype=module.dtype,
    **options,
  )
