"""Checks and small operations that every room shares."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import P, lax
from jax.sharding import AbstractMesh, AxisType, Mesh, Sharding

#: Mesh axes over which a batch is split, outermost first.
BATCH_AXES = ("data", "fsdp")


def check_same_shape(rank: int, **arrays: jax.Array) -> None:
  """Raises unless all arrays have one shape of the given rank.

  Args:
    rank: number of dimensions that every array must have.
    **arrays: the arrays by their argument names.

  Raises:
    ValueError: naming each array and its shape.
  """
  shapes = {name: jnp.shape(x) for name, x in arrays.items()}
  if len(set(shapes.values())) > 1 or any(len(s) != rank for s in shapes.values()):
    wanted = {1: "[batch]", 2: "[batch, dim]", 3: "[batch, tokens, dim]"}.get(rank, f"rank-{rank}")
    raise ValueError(f"expected equal {wanted} shapes, got {shapes}")


def check_labels(labels: jax.Array, **arrays: jax.Array) -> None:
  """Raises unless there is one integer label a row.

  Args:
    labels: ``[batch]`` integers.
    **arrays: one ``[batch, dim]`` array by its argument's name.

  Raises:
    ValueError: naming both shapes, or the labels' dtype.
  """
  ((name, x),) = arrays.items()
  if jnp.ndim(x) != 2 or jnp.shape(labels) != jnp.shape(x)[:1]:
    raise ValueError(
      f"expected {name} [batch, dim] and labels [batch], got {jnp.shape(x)} and {jnp.shape(labels)}"
    )
  if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
    raise ValueError(f"expected integer labels, got {jnp.result_type(labels)}; cast them first")


def check_mask(mask: jax.Array, shape: tuple[int, ...]) -> None:
  """Raises unless a mask over tokens has the shape of the tokens.

  Args:
    mask: the mask.
    shape: ``(batch, tokens)``.

  Raises:
    ValueError: naming both shapes.
  """
  if jnp.shape(mask) != tuple(shape):
    raise ValueError(f"expected mask of shape {tuple(shape)}, got {jnp.shape(mask)}")


def at_least_float32(x: jax.Array) -> jax.Array:
  """Casts to the precision in which sums are formed: float32, or float64 where that comes in.

  Args:
    x: any shape, any real dtype.

  Returns:
    The same values.
  """
  return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))


def cross_entropy(
  logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
  """Cross entropy of integer labels.

  Args:
    logits: ``[..., classes]``, floating.
    labels: ``[...]`` integers; where negative, what comes out is of class 0 and to be masked.
    label_smoothing: share of the target that is spread evenly over the classes.

  Returns:
    ``[...]``, in the dtype of ``logits``.
  """
  target = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[..., None], -1)[..., 0]
  if label_smoothing:
    target = (1 - label_smoothing) * target + label_smoothing * jnp.mean(logits, -1)
  return jax.nn.logsumexp(logits, -1) - target


def safe_sqrt(x: jax.Array) -> jax.Array:
  """Square root with a gradient of 0 at 0.

  Args:
    x: any shape, >= 0.

  Returns:
    Same shape and dtype as ``x``.
  """
  some = x > 0
  return jnp.where(some, jnp.sqrt(jnp.where(some, x, 1)), 0)


def l2_normalize(x: jax.Array, *, axis: int = -1, eps: float = 1e-12) -> jax.Array:
  """Scales vectors to unit length, with a finite value and gradient at zero.

  Args:
    x: any shape, floating.
    axis: the axis that holds a vector.
    eps: floor of the squared length; shorter vectors stay short.

  Returns:
    Same shape and dtype as ``x``.
  """
  return x * lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis, keepdims=True), eps))


def standardize(x: jax.Array, *, eps: float = 1e-5, ddof: int = 0) -> jax.Array:
  """Vectors less their mean, divided by their standard deviation: a layer norm without parameters.

  Args:
    x: ``[..., dim]``, floating.
    eps: added to the variance.
    ddof: what the sum of squares is divided by: ``dim - ddof``.

  Returns:
    Same shape and dtype as ``x``.
  """
  variance = jnp.var(x, -1, ddof=ddof, keepdims=True)
  return (x - jnp.mean(x, -1, keepdims=True)) * lax.rsqrt(variance + eps)


def masked_mean(x: jax.Array, where: jax.Array | None = None, *, axis=None) -> jax.Array:
  """Mean over the entries that ``where`` keeps; 0 where it keeps none.

  Args:
    x: values, any shape.
    where: boolean, same shape as ``x``; everything if absent.
    axis: axis or axes to average over; all if absent.

  Returns:
    ``x`` without ``axis``.
  """
  if where is None:
    return jnp.mean(x, axis)
  count = jnp.sum(where, axis, dtype=x.dtype)
  # The inner where keeps the gradient finite if a dropped entry is not.
  return jnp.sum(jnp.where(where, x, 0), axis) / jnp.maximum(count, 1)


def smooth_l1(error: jax.Array, beta: float = 1.0) -> jax.Array:
  """Squared near zero, absolute beyond: Huber's loss divided by ``beta``.

  Args:
    error: differences, any shape.
    beta: where the parabola ends, > 0.

  Returns:
    ``error**2 / (2 * beta)`` up to ``beta``, ``abs(error) - beta / 2`` beyond, same shape.
  """
  near = jnp.clip(error, -beta, beta)
  return near * (error - near / 2) / beta


def batch_axes(mesh: Mesh | AbstractMesh) -> tuple[str, ...]:
  """The axes of a mesh over which a batch is split.

  Args:
    mesh: any.

  Returns:
    Their names, outermost first.
  """
  return tuple(name for name in BATCH_AXES if name in mesh.shape)


def batch_shards(mesh: Mesh) -> int:
  """Into how many parts a batch is split.

  Args:
    mesh: any.

  Returns:
    Their number.
  """
  return math.prod(mesh.shape[name] for name in batch_axes(mesh))


def place_rows(x: np.ndarray, rows: np.ndarray, size: int, sharding: Sharding) -> jax.Array:
  """Makes a global array of the rows that this process holds.

  They need not be neighbours: devices lie in a mesh as their links do.

  Args:
    x: ``[rows, ...]``.
    rows: ``[rows]`` ascending integers, their places in the whole; those of this process's devices.
    size: rows of the whole.
    sharding: of the whole, split along its rows alone.

  Returns:
    ``[size, ...]``.
  """

  def part(index):
    start, stop, _ = index[0].indices(size)
    first = np.searchsorted(rows, start)
    return x[first : first + stop - start]

  return jax.make_array_from_callback((size, *x.shape[1:]), sharding, part)


def split_batch(x: jax.Array) -> jax.Array:
  """Holds activations to the layout of the batch, in a program that is laid out over a mesh.

  Where parameters are split too, the compiler has to choose which of the two to bring together.
  Left to itself it often takes the activations, whose bytes grow with the batch (measured in
  benchmarks/NOTES.md); encoders therefore call this between their blocks.

  Args:
    x: ``[batch, ...]``.

  Returns:
    The same values. Nothing happens outside of `on_mesh`, under a mapped axis, and where the axes
    do not divide the batch.
  """
  mesh = jax.sharding.get_abstract_mesh()
  kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
  axes = tuple(name for name in batch_axes(mesh) if kinds[name] == AxisType.Auto)
  if not axes or len(x) % math.prod(mesh.shape[name] for name in axes):
    return x
  return lax.with_sharding_constraint(x, P(axes, *[P.UNCONSTRAINED] * (x.ndim - 1)))


def on_mesh(f: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
  """Lets a function know while it is traced the mesh of its program.

  Args:
    f: to be compiled with arguments on the mesh.
    mesh: a mesh with Auto axes, from `repjax.train.make_mesh`.

  Returns:
    The same function, in which `split_batch` finds the mesh.
  """

  @functools.wraps(f)
  def known(*args):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return f(*args)

  return known


def platform() -> str:
  """Kind of device that a program is traced for.

  Returns:
    ``cpu``, ``gpu`` or ``tpu``: inside of `on_mesh` that of the mesh, whose devices need not be
    here; else that of the devices that are.
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  if device is None:
    return jax.default_backend()
  kind = device.device_kind.lower()  # JAX 0.10.0 knows no more
  return next((name for name in ("cpu", "tpu") if kind.startswith(name)), "gpu")
