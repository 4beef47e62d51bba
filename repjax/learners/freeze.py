"""Prototypes that stay where they are while a run begins."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.learners.learner import Objective, Tree


def hold_prototypes(objective: Objective, steps: int) -> Objective:
  """Lets no gradient reach prototypes for the first updates.

  DINO's code does so with the last layer of the head for an epoch, its targets being made of random
  features still. Decay by the optimizer does not turn prototypes that are normalised.

  Args:
    objective: one that counts its steps, as those of `joint_embedding` do, and has parameters by
      the name of ``prototypes``.
    steps: how many updates; 0 leaves the objective as it is.

  Returns:
    The objective.

  Raises:
    ValueError: at the first update, if it has no prototypes.

  References:
    Caron et al., `Emerging Properties in Self-Supervised Vision Transformers
    <https://arxiv.org/abs/2104.14294>`_, 2021; ``freeze_last_layer`` in ``main_dino.py`` of
    https://github.com/facebookresearch/dino.
  """
  if not steps:
    return objective

  def loss(params, extra, batch, key):
    held = _held(params, extra["step"] < steps)
    return objective.loss(held, extra, batch, key)

  return objective._replace(loss=loss)


def _held(params: Tree, still: jax.Array) -> Tree:
  leaves, structure = jax.tree.flatten_with_path(params)
  names = [path[-1].key for path, _ in leaves]
  if "prototypes" not in names:
    raise ValueError(f"no parameter is called prototypes, but {sorted(set(names))}; hold none")
  hold = lambda x: jnp.where(still, lax.stop_gradient(x), x)
  return structure.unflatten(
    hold(x) if name == "prototypes" else x for name, (_, x) in zip(names, leaves, strict=True)
  )
