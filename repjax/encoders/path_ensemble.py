"""A ViT seen as a sum over paths, which can be weighed and left out one by one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from repjax.arrays import at_least_float32
from repjax.encoders.features import Features
from repjax.encoders.transformer import Block
from repjax.encoders.vit import ViT


class PathEnsemble(nn.Module):
  r"""A ViT whose final norm sees a weighted sum over paths of all lengths.

  With :math:`y_i = x_{i-1} + A_i(x_{i-1})` and :math:`x_i = y_i + F_i(y_i)` for the attention and
  the feed-forward layer of block i, each with the norm before it, the last block's output is

  .. math:: x_L = x_0 + \sum_i A_i(x_{i-1}) + \sum_i F_i(y_i),

  a sum over :math:`2L + 1` paths, each of which is also part of what longer ones start from. Here
  each has a factor for every channel as a contribution to the sum; what longer paths start from
  stays as it is. With factors of 1, as at the start, this is the ViT.

  Paths are numbered as they are added: 0 is :math:`x_0`, then the attention and the feed-forward
  layer of each block in turn. What a path does for a trained model shows without it:
  ``pruned=(path,)``. The ViT's parameters are under ``vit``.

  Attributes:
    vit: with blocks unrolled, ``scan=False``, and stored, ``remat=False``.
    pruned: paths that do not contribute to the sum.
    ensemble_scale: whether there are factors, the parameter ``ensemble_scale``; if not, all are 1.

  References:
    Chang et al., `Revisiting Vision Transformer from the View of Path Ensemble
    <https://arxiv.org/abs/2308.06548>`_, 2023, section 3 (paths, path pruning, EnsembleScale).
    There is no official code.
  """

  vit: ViT
  pruned: tuple[int, ...] = ()
  ensemble_scale: bool = True

  @nn.compact
  def __call__(
    self,
    image: jax.Array,
    *,
    train: bool = False,
    mask: jax.Array | None = None,
    keep: jax.Array | None = None,
  ) -> Features:
    """Encodes images.

    There is no ``tokens_in``: what it changed between blocks would be part of no path.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: as for the ViT, as are the others.
      mask: ``[batch, patches]`` boolean, true patches are hidden.
      keep: ``[batch, kept]`` int32, the patches that go in.

    Returns:
      Features; ``layers`` are those of the ViT, but the last is the weighted sum.

    Raises:
      ValueError: if a pruned path does not exist, or the ViT is scanned or rematerialised.
    """
    _check(self.vit)
    count = 2 * self.vit.depth + 1
    if wrong := [path for path in self.pruned if not 0 <= path < count]:
      raise ValueError(f"pruned path {wrong[0]} is not one of 0 to {count - 1}")
    weights = jnp.ones((count, self.vit.dim))
    if self.ensemble_scale:
      weights = self.param("ensemble_scale", nn.initializers.ones, weights.shape)
    weights = weights * ~np.isin(np.arange(count), self.pruned)[:, None]
    total = lambda paths: jnp.einsum("pbnd,pd->bnd", at_least_float32(paths), weights)
    with nn.intercept_methods(_gather([], self.vit.depth, total)):
      return self.vit(image, train=train, mask=mask, keep=keep)


def vit_paths(
  vit: ViT,
  variables: dict,
  image: jax.Array,
  *,
  mask: jax.Array | None = None,
  keep: jax.Array | None = None,
) -> jax.Array:
  """What each path of a ViT adds to the last block's output; their sum is that output.

  Args:
    vit: with blocks unrolled and stored.
    variables: of the ViT.
    image: ``[batch, height, width, channels]``, floating.
    mask: ``[batch, patches]`` boolean, true patches are hidden.
    keep: ``[batch, kept]`` int32, the patches that go in.

  Returns:
    ``[2 * depth + 1, batch, prefix + tokens, dim]``: the tokens before the first block, then of
    each block the attention and the feed-forward layer.

  Raises:
    ValueError: if the ViT is scanned or rematerialised.
  """
  _check(vit)
  paths: list[jax.Array] = []
  with nn.intercept_methods(_gather(paths, vit.depth, lambda paths: jnp.sum(paths, 0))):
    vit.apply(variables, image, mask=mask, keep=keep)
  return jnp.stack(paths)


def _gather(
  paths: list[jax.Array], depth: int, total: Callable[[jax.Array], jax.Array]
) -> Callable:
  """Collects a ViT's paths while it runs, and has the last block put out their total."""

  def watch(call, args, kwargs, context):
    module = context.module
    if context.method_name != "__call__":
      return call(*args, **kwargs)
    if module.name in ("attention", "mlp") and isinstance(module.parent, Block):
      paths.append(call(*args, **kwargs))
      return paths[-1]
    if not isinstance(module, Block):
      return call(*args, **kwargs)
    if not paths:
      paths.append(args[0])
    out = call(*args, **kwargs)
    for path, name in ((-2, "scale_1"), (-1, "scale_2")):  # a layer scale belongs to its path
      if module.has_variable("params", name):
        paths[path] *= module.get_variable("params", name).astype(out.dtype)[None, None]
    last = len(paths) == 2 * depth + 1
    return total(jnp.stack(paths)).astype(out.dtype) if last else out

  return watch


def _check(vit: ViT) -> None:
  """Raises if blocks cannot be watched one by one."""
  if vit.scan or vit.remat:
    raise ValueError(
      f"paths need scan=False and remat=False, got scan={vit.scan} and remat={vit.remat}; "
      "build the ViT so, and convert scanned parameters with unstack_blocks"
    )
