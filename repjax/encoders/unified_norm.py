"""Unified Normalization: batch statistics smooth enough for transformers, which fuse away."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike

from repjax.arrays import at_least_float32

Tree = Any

#: Parameters that hold what backward passes have seen; their gradient is their next value.
GRADIENT_STATISTICS = ("gradient_count", "gradient_mean", "gradient_recent")


class UnifiedNorm(nn.Module):
  r"""Divides each channel by the root of its second moment over batch, tokens and recent steps.

  .. math:: z = x / \sqrt{\hat\sigma^2 + \epsilon}, \quad
            \hat\sigma^2 = \Big(\prod_{i=0}^{M-1} \sigma^2_{t-i}\Big)^{1/M}

  No mean is taken off. A step is an outlier if the arithmetic mean of the moments in the window is
  above the geometric mean, in any channel, by more than :math:`M` times the variance of the roots
  in the window before: it then takes its own moment, and the window the running one. The backward
  pass is :math:`(g - \hat\gamma z) / \sqrt{\hat\sigma^2 + \epsilon}` with :math:`\hat\gamma`, the
  mean of :math:`g z`, averaged over the window and over time.

  The forward statistics are the collection ``unified_stats``. A backward pass hands out gradients
  and nothing else, so its statistics are parameters (`GRADIENT_STATISTICS`) whose gradient is their
  next value: wrap the optimizer in `keep_statistics`. Without it all gradients become NaN at the
  second step.

  Attributes:
    window: steps that are averaged over, :math:`M`; with 1 every step takes its own moment.
    warmup: steps before any averaging.
    momentum: share of running statistics kept at each step of training.
    filter_outliers: whether outliers are left out; the authors do so for images, not for text.
    epsilon: added to the moment.
    axis_name: mapped axis that holds the other shards of a batch, if any. Losses are averaged over
      it, inside of the gradient or behind it, as `repjax.learners.by_gradient` does.
    dtype: of the result; statistics are float32.

  References:
    Yang et al., `Unified Normalization for Accelerating and Stabilizing Transformers
    <https://arxiv.org/abs/2208.01313>`_, 2022. Details are those of ``unified_normalization.py`` in
    https://github.com/hikvision-research/Unified-Normalization, less a factor on gradients from
    step 1,000 on, the clipped ratio of the current deviation to the running one; there, too,
    outliers may be found before the window is full.
  """

  window: int = 4
  warmup: int = 4000
  momentum: float = 0.9
  filter_outliers: bool = True
  epsilon: float = 1e-5
  axis_name: str | None = None
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
    """Normalises.

    Args:
      x: ``[batch, ..., dim]``, floating.
      train: whether the batch's statistics count, and enter the running ones.

    Returns:
      Same shape as ``x``.

    Raises:
      ValueError: if ``x`` has no batch or the window is empty.
    """
    if x.ndim < 2 or self.window < 1:
      raise ValueError(
        f"expected x [batch, ..., dim] and window >= 1, got shape {x.shape}, window={self.window}"
      )
    dim = x.shape[-1]
    scale = self.param("scale", nn.initializers.ones, (dim,))
    bias = self.param("bias", nn.initializers.zeros, (dim,))
    zeros = nn.initializers.zeros
    past = _Past(
      self.param("gradient_count", zeros, ()),
      self.param("gradient_recent", zeros, (self.window, dim)),
      self.param("gradient_mean", zeros, (dim,)),
    )
    count = self.variable("unified_stats", "count", jnp.zeros, (), jnp.int32)
    recent = self.variable("unified_stats", "recent", jnp.zeros, (self.window, dim))
    running = self.variable("unified_stats", "running", jnp.ones, (dim,))
    inverse = lambda moment: lax.rsqrt(moment + self.epsilon).reshape((1,) * (x.ndim - 1) + (dim,))
    if not train:
      z = at_least_float32(x) * inverse(running.value)
    else:
      # Initialisation runs outside of any mapped axis.
      axis_name = None if self.is_initializing() else self.axis_name
      moment, outlier, window = self._forward_statistics(
        x, count.value + 1, recent.value, running.value, axis_name
      )
      if not self.is_initializing():
        count.value, recent.value = count.value + 1, window
        running.value = self.momentum * running.value + (1 - self.momentum) * moment
      settings = _Settings(self.warmup, self.momentum, axis_name)
      z = _normalise(settings, at_least_float32(x), inverse(moment), past, outlier)
    row = lambda v: v.reshape((1,) * (x.ndim - 1) + (dim,))
    return (z * row(scale) + row(bias)).astype(self.dtype)

  def _forward_statistics(self, x, count, recent, running, axis_name):
    """This step's moment, whether it takes its own alone, and the new window."""
    x = lax.stop_gradient(at_least_float32(x))
    own = jnp.mean(x * x, range(x.ndim - 1))
    if axis_name is not None:
      own = lax.pmean(own, axis_name)
    slot = count % self.window
    window = recent.at[slot].set(own)
    ready = (count > self.window) & (count >= self.warmup) & (self.window > 1)
    geometric = jnp.exp(jnp.mean(jnp.log(window), 0))
    outlier = jnp.zeros((), bool)
    if self.filter_outliers:
      # One variance over channels and steps, as in the code, before this step enters.
      spread = jnp.var(jnp.sqrt(recent), ddof=1) * self.window
      outlier = ready & jnp.any(jnp.mean(window, 0) - geometric > spread)
      window = jnp.where(outlier, recent.at[slot].set(running), window)
    outlier |= self.window == 1
    return jnp.where(ready & ~outlier, geometric, own), outlier, window


class _Past(NamedTuple):
  """What backward passes have seen: their number, the last means of ``g z``, their mean in time."""

  count: jax.Array
  recent: jax.Array
  mean: jax.Array


class _Settings(NamedTuple):
  warmup: int
  momentum: float
  axis_name: str | None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _normalise(settings, x, inverse, past, outlier):
  return x * inverse


def _normalise_forward(settings, x, inverse, past, outlier):
  z = x * inverse
  return z, (z, inverse, past, outlier)


def _normalise_backward(settings, saved, g):
  z, inverse, past, outlier = saved
  warmup, momentum, axis_name = settings
  gamma, shards = jnp.mean(g * z, range(z.ndim - 1)), 1
  if axis_name is not None:
    # A shard's loss is a mean over fewer rows, its gradients as many times larger; kept is what
    # the whole batch would see.
    gamma, shards = lax.pmean(gamma, axis_name), lax.psum(1, axis_name)
    gamma = gamma / shards
  count, window = past.count + 1, len(past.recent)
  slot = count.astype(jnp.int32) % window
  recent = past.recent.at[slot].set(jnp.where(outlier, past.mean, gamma))
  smooth = (count > window) & (count >= warmup) & ~outlier
  mean = momentum * past.mean
  mean += (1 - momentum) * jnp.where(smooth, jnp.mean(recent, 0), gamma)
  along = shards * jnp.where(outlier, gamma, mean)
  # A count that is not whole was moved by an optimizer.
  known = (past.count >= 0) & (past.count == jnp.round(past.count))
  change = (g - along.reshape(inverse.shape) * z) * inverse
  change, mean = (jnp.where(known, v, jnp.nan) for v in (change, mean))
  return change, jnp.zeros_like(inverse), _Past(count, recent, mean), None


_normalise.defvjp(_normalise_forward, _normalise_backward)


def keep_statistics(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """Lets an optimizer write the statistics of `UnifiedNorm`'s backward pass where they belong.

  Args:
    optimizer: for all other parameters.

  Returns:
    The same, which replaces each of `GRADIENT_STATISTICS` by its gradient.
  """

  def label(params):
    name = lambda path: getattr(path[-1], "key", None)
    kind = lambda path, _: "statistics" if name(path) in GRADIENT_STATISTICS else "parameters"
    return jax.tree_util.tree_map_with_path(kind, params)

  def replace(updates, state, params):
    return jax.tree.map(jnp.subtract, updates, params), state

  overwrite = optax.GradientTransformation(lambda params: optax.EmptyState(), replace)
  return optax.partition({"parameters": optimizer, "statistics": overwrite}, label)


def fuse_norm(norm: Tree, stats: Tree, dense: Tree, *, epsilon: float = 1e-5) -> Tree:
  """Folds a trained `UnifiedNorm` into the dense layer behind it.

  Args:
    norm: the norm's parameters: ``scale`` and ``bias`` ``[dim]``.
    stats: its ``unified_stats``, of which ``running`` ``[dim]`` counts.
    dense: ``kernel`` ``[dim, features]`` and ``bias`` ``[features]`` of the layer; others that read
      the same norm, such as query, key and value, take it likewise.
    epsilon: that of the norm.

  Returns:
    Parameters of a dense layer that does both.
  """
  factor = norm["scale"] * lax.rsqrt(stats["running"] + epsilon)
  kernel = dense["kernel"] * factor[:, None]
  return {"kernel": kernel, "bias": dense["bias"] + norm["bias"] @ dense["kernel"]}
