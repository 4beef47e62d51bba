"""Plain functions and small dense nets that claims train in one program."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

Tree = Any


def descend(
  loss: Callable[[Tree, Tree], jax.Array],
  params: Tree,
  arrays: Tree,
  *,
  at: Sequence[int],
  batch_size: int,
  seed: int,
  optimizer: optax.GradientTransformation | None = None,
) -> list[Tree]:
  """Trains plain functions that fit a page, in one program, and looks at them on the way.

  Args:
    loss: ``(params, batch) -> scalar``; one function, named once, is compiled once.
    params: where to start.
    arrays: a batch of everything, ``[n, ...]`` each.
    at: ascending numbers of updates after which to look, 0 for the start.
    batch_size: rows of an update, drawn with repetition; all ``n`` in order if it is ``n``.
    seed: of the draws.
    optimizer: how to descend; Adam at 1e-3 if absent.

  Returns:
    The parameters at each look.
  """
  optimizer = _ADAM if optimizer is None else optimizer
  state, key, found, done = optimizer.init(params), jax.random.key(seed), [], 0
  for step in at:
    params, state = _descend(loss, optimizer, batch_size, params, state, arrays, key, done, step)
    found, done = [*found, params], step
  return found


_ADAM = optax.adam(1e-3)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _descend(loss, optimizer, batch_size, params, state, arrays, key, start, stop):
  size = len(jax.tree.leaves(arrays)[0])

  def update(step, carry):
    params, state = carry
    batch = arrays
    if batch_size < size:
      rows = jax.random.randint(jax.random.fold_in(key, step), (batch_size,), 0, size)
      batch = jax.tree.map(lambda x: x[rows], arrays)
    updates, state = optimizer.update(jax.grad(loss)(params, batch), state, params)
    return optax.apply_updates(params, updates), state

  return lax.fori_loop(start, stop, update, (params, state))


def dense_net(key: jax.Array, widths: Sequence[int]) -> list[dict[str, jax.Array]]:
  """Parameters of a chain of dense layers, He's initialisation.

  Args:
    key: of the draws.
    widths: of the input and of each layer.

  Returns:
    ``kernel`` and ``bias`` of each layer.
  """
  keys = jax.random.split(key, len(widths) - 1)
  draw = lambda k, n, m: jax.random.normal(k, (n, m)) * np.sqrt(2 / n)
  shapes = zip(keys, widths[:-1], widths[1:], strict=True)
  return [{"kernel": draw(k, n, m), "bias": jnp.zeros(m)} for k, n, m in shapes]


def dense_layers(
  params: list[dict[str, jax.Array]],
  x: jax.Array,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
) -> list[jax.Array]:
  """What each layer of a `dense_net` gives.

  Args:
    params: of all layers.
    x: ``[batch, dim]``.
    activation: after all layers but the last.

  Returns:
    ``[batch, width]`` each, the last of them the logits.
  """
  found = []
  for layer in params:
    x = x if not found else activation(x)
    x = jnp.matmul(x, layer["kernel"]) + layer["bias"][None]
    found.append(x)
  return [*(activation(x) for x in found[:-1]), found[-1]]


def cross_entropy(params: list[dict[str, jax.Array]], batch: dict[str, jax.Array]) -> jax.Array:
  """Of a `dense_net`, mean over the batch.

  Args:
    params: of all layers.
    batch: ``image [batch, dim]`` and ``label [batch]``.

  Returns:
    Scalar.
  """
  logits = dense_layers(params, batch["image"])[-1]
  return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]))
