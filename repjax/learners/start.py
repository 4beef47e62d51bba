"""A second stage: one objective goes on from what another one learned."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from repjax.learners.learner import Objective, Tree


def start_from(objective: Objective, params: Tree, extra: Tree | None = None) -> Objective:
  """An objective that starts with given values in place of those that its ``init`` makes.

  Args:
    objective: any.
    params: values of some of its parameters, by the same names, such as ``{"encoder": ...}``.
    extra: values of some of its other state, such as ``{"rest": {"batch_stats": ...}}``.

  Returns:
    The objective; its ``init`` raises a ValueError for a name that it does not know and for an
    array of another shape.
  """

  def init(key, batch):
    own_params, own_extra = objective.init(key, batch)
    return _put(own_params, params, "params"), _put(own_extra, extra or {}, "extra")

  return objective._replace(init=init)


def _put(own: Any, given: Any, path: str) -> Any:
  """The tree ``own``, with what ``given`` has in its place."""
  if isinstance(given, Mapping):
    if not isinstance(own, Mapping) or given.keys() - own.keys():
      known = sorted(own) if isinstance(own, Mapping) else "an array"
      raise ValueError(f"cannot start {path} from {sorted(given)}: the objective has {known} there")
    return {
      name: _put(x, given[name], f"{path}/{name}") if name in given else x
      for name, x in own.items()
    }
  shapes = [jax.tree.map(jnp.shape, tree) for tree in (own, given)]
  if shapes[0] != shapes[1]:
    raise ValueError(f"cannot start {path} of shape {shapes[0]} from shape {shapes[1]}")
  # A state is donated: the stage before keeps its buffers.
  return jax.tree.map(jnp.copy, given)
