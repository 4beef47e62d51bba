"""Token reduction inside of a transformer: what `repjax.encoders.ViT` has as ``reduce``."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from repjax.select.attention import class_attention, evit, fuse
from repjax.select.tokens import Reduction, behind, compose, keep_all, merge, take, token_sizes

#: What a block shows, and what it goes on with: `repjax.encoders.transformer.Between`.
Between = Any
Reduce = Callable[[int, Between], Between]


class Patches:
  """What a method can choose patches by, in one block, between attention and feed-forward layer.

  Computed when it is asked for.

  Attributes:
    tokens: ``[batch, patches, dim]``.
    keys: ``[batch, patches, head_dim]``, the mean over heads.
    attention: ``[batch, patches]``, of the class token.
  """

  def __init__(self, between: Between, prefix: int):
    self._between, self._prefix = between, prefix

  @property
  def tokens(self) -> jax.Array:
    return self._between.tokens[:, self._prefix :]

  @property
  def keys(self) -> jax.Array:
    return jnp.mean(self._between.key[:, self._prefix :], 2)

  @property
  def attention(self) -> jax.Array:
    between = self._between
    return class_attention(between.query, between.key, self._prefix, sizes=between.sizes)


Choose = Callable[[int, Patches, int], Reduction]


def keep_rate(patches: int, layers: Iterable[int], rate: float) -> dict[int, int]:
  """How many patches are left after each layer, if each keeps the same share.

  Args:
    patches: before the first.
    layers: those that reduce, ascending.
    rate: share that each keeps, in (0, 1], rounded up.

  Returns:
    The numbers by layer.
  """
  left = {}
  for layer in layers:
    # Less a little, so that 0.7 of 10 is 7.
    left[layer] = patches = math.ceil(rate * patches - 1e-9)
  return left


def merge_between(
  choose: Choose, left: Mapping[int, int], *, prefix: int = 1, proportional: bool = True
) -> Reduce:
  """Merges patches in some layers, as ToMe and PiToMe do.

  Args:
    choose: ``(layer, patches, left) -> reduction``, such as
      ``lambda layer, patches, left: tome(patches.keys, left)``.
    left: by layer, how many patches it leaves (`keep_rate`).
    prefix: class token and registers, which stay.
    proportional: whether a merged token is attended to as if it were all of those in it; ToMe's
      advice is yes for trained classifiers, no for masked autoencoders and where one trains with
      merging.

  Returns:
    A value of ``reduce`` of `repjax.encoders.ViT`, whose ``trace`` is then the `Reduction` of all
    tokens, class token and registers included.
  """

  def reduce(layer: int, between: Between) -> Between:
    if layer not in left:
      return between
    reduction = behind(choose(layer, Patches(between, prefix), left[layer]), prefix)
    trace = _trace(between)
    tokens, sizes = merge(reduction, between.tokens, token_sizes(trace))
    return between._replace(
      tokens=tokens, sizes=sizes if proportional else None, trace=compose(trace, reduction)
    )

  return reduce


def drop_between(
  choose: Choose, left: Mapping[int, int], *, prefix: int = 1, traced: bool = True
) -> Reduce:
  """Drops patches in some layers, as DivPrune, CenterCLIP and top-k attention do.

  Args:
    choose: ``(layer, patches, left) -> reduction``, such as
      ``lambda layer, patches, left: divprune(patches.tokens, left)``.
    left: by layer, how many patches it leaves.
    prefix: class token and registers, which stay.
    traced: whether to tell what went where, which cannot be told if tokens are added later.

  Returns:
    A value of ``reduce`` of `repjax.encoders.ViT`; see `merge_between`.
  """

  def reduce(layer: int, between: Between) -> Between:
    if layer not in left:
      return between
    reduction = behind(choose(layer, Patches(between, prefix), left[layer]), prefix)
    trace = compose(_trace(between), reduction) if traced else None
    sizes = None if between.sizes is None else take(reduction, between.sizes)
    return between._replace(tokens=take(reduction, between.tokens), sizes=sizes, trace=trace)

  return reduce


def fuse_between(left: Mapping[int, int], *, prefix: int = 1, traced: bool = True) -> Reduce:
  """EViT: keeps the patches that the class token attends to and fuses the others into one.

  Args:
    left: by layer, how many patches it leaves, the fused one included.
    prefix: class token and registers, which stay.
    traced: see `drop_between`.

  Returns:
    A value of ``reduce`` of `repjax.encoders.ViT`; see `merge_between`.
  """

  def reduce(layer: int, between: Between) -> Between:
    if layer not in left:
      return between
    patches = Patches(between, prefix)
    attention = patches.attention
    part = evit(attention, left[layer])
    fused = fuse(part, patches.tokens, attention)
    tokens = jnp.concatenate([between.tokens[:, :prefix], fused], 1)
    trace = compose(_trace(between), behind(part, prefix)) if traced else None
    return between._replace(tokens=tokens, sizes=None, trace=trace)

  return reduce


def _trace(between):
  return keep_all(*between.tokens.shape[:2]) if between.trace is None else between.trace
