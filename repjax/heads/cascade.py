"""Matryoshka heads: classify by a few coordinates, and by more where these are not sure."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Params = Any


class Decision(NamedTuple):
  """What a cascade says.

  Attributes:
    logits: ``[batch, classes]``, those of the size at which each example left.
    stage: ``[batch]`` int32, which size that is.
  """

  logits: jax.Array
  stage: jax.Array


def fit_prefixes(
  fit: Callable[[jax.Array], Params], features: jax.Array, *, sizes: Sequence[int]
) -> tuple[Params, ...]:
  """A head for the first coordinates, at each of several sizes.

  Args:
    fit: ``features [batch, size] -> parameters``, such as `repjax.heads.fit_logistic` with its
      labels.
    features: ``[batch, dim]``.
    sizes: ascending, each at most ``dim``.

  Returns:
    The parameters, one a size.

  Raises:
    ValueError: if the sizes do not ascend or exceed the features.
  """
  _check_sizes(sizes, features)
  return tuple(fit(features[:, :size]) for size in sizes)


def prefix_logits(
  logits: Callable[[Params, jax.Array], jax.Array],
  params: Sequence[Params],
  features: jax.Array,
  *,
  sizes: Sequence[int],
) -> jax.Array:
  """What the head of every size says.

  Args:
    logits: ``(parameters, features [batch, size]) -> [batch, classes]``.
    params: one a size, from `fit_prefixes`.
    features: ``[batch, dim]``.
    sizes: as they were fitted.

  Returns:
    ``[sizes, batch, classes]``.

  Raises:
    ValueError: if sizes, parameters and features do not fit together.
  """
  _check_sizes(sizes, features)
  if len(params) != len(sizes):
    raise ValueError(f"expected parameters for each of {len(sizes)} sizes, got {len(params)}")
  parts = zip(params, sizes, strict=True)
  return jnp.stack([logits(own, features[:, :size]) for own, size in parts])


def run_cascade(logits: jax.Array, thresholds: jax.Array) -> Decision:
  """Each example leaves at the first size whose largest probability reaches its threshold.

  Args:
    logits: ``[sizes, batch, classes]``, from `prefix_logits`, smallest size first. Probabilities
      are their softmax, so they must be on the scale of log probabilities.
    thresholds: ``[sizes - 1]`` in ``[0, 1]``; at the last size all leave. At 0 all leave at once,
      above 1 none does.

  Returns:
    Logits and stage.

  Raises:
    ValueError: if there is not one threshold a size but the last.

  References:
    Kusupati et al., `Matryoshka Representation Learning <https://arxiv.org/abs/2205.13147>`_, 2022,
    section 4.2.1.
  """
  thresholds = jnp.asarray(thresholds)
  if logits.ndim != 3 or thresholds.shape != (len(logits) - 1,):
    raise ValueError(
      f"expected logits [sizes, batch, classes] and thresholds [sizes - 1], got {logits.shape} and "
      f"{thresholds.shape}"
    )
  confidence = jnp.max(jax.nn.softmax(logits[:-1], -1), -1)
  sure = confidence >= thresholds[:, None]
  sure = jnp.concatenate([sure, jnp.ones_like(sure, shape=(1, sure.shape[1]))])
  stage = jnp.argmax(sure, 0).astype(jnp.int32)
  return Decision(jnp.take_along_axis(logits, stage[None, :, None], 0)[0], stage)


def expected_dimension(stage: jax.Array, *, sizes: Sequence[int]) -> jax.Array:
  """Mean size at which examples leave.

  Larger prefixes contain the smaller ones, so that this is what has to be stored or read; a cascade
  that pays for the heads of all sizes it passes pays their sum.

  Args:
    stage: ``[batch]`` int.
    sizes: of the prefixes.

  Returns:
    Scalar between the smallest and the largest size.

  References:
    Kusupati et al., `Matryoshka Representation Learning <https://arxiv.org/abs/2205.13147>`_, 2022,
    section 4.2.1.
  """
  return jnp.mean(jnp.asarray(sizes, jnp.float32)[stage])


def choose_thresholds(logits: jax.Array, labels: jax.Array, *, grid: jax.Array) -> jax.Array:
  """For each size the threshold at which the next size helps most, on examples held out.

  Sizes are taken in pairs: examples above the threshold keep what the smaller size says, the others
  get what the next one says, and the smallest threshold of the highest accuracy wins. The paper
  learns thresholds on 10,000 of ImageNet's validation images; the ties' rule is ours.

  Args:
    logits: ``[sizes, batch, classes]`` of examples that fitted nothing.
    labels: ``[batch]`` int; -1 is left out.
    grid: ``[thresholds]``, ascending, in ``[0, 1]``.

  Returns:
    ``[sizes - 1]``.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Kusupati et al., `Matryoshka Representation Learning <https://arxiv.org/abs/2205.13147>`_, 2022,
    section 4.2.1 and appendix D.1.
  """
  grid = jnp.asarray(grid)
  if logits.ndim != 3 or labels.shape != logits.shape[1:2] or grid.ndim != 1:
    raise ValueError(
      f"expected logits [sizes, batch, classes], labels [batch] and grid [thresholds], got "
      f"{logits.shape}, {labels.shape} and {grid.shape}"
    )
  right = (jnp.argmax(logits, -1) == labels[None]) & (labels >= 0)[None]
  confidence = jnp.max(jax.nn.softmax(logits, -1), -1)

  def count(threshold):
    kept = confidence[:-1] >= threshold
    return jnp.sum(jnp.where(kept, right[:-1], right[1:]), 1)

  return grid[jnp.argmax(jax.lax.map(count, grid), 0)]


def _check_sizes(sizes: Sequence[int], features: jax.Array) -> None:
  if not sizes or list(sizes) != sorted(set(sizes)) or not 0 < sizes[0] <= sizes[-1]:
    raise ValueError(f"expected sizes that ascend from 1 or more, got {list(sizes)}")
  if features.ndim != 2 or sizes[-1] > features.shape[1]:
    raise ValueError(f"sizes {list(sizes)} exceed features of shape {features.shape}")
