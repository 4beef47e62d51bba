"""A learner is three pure functions over one state tree."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax

from repjax.encoders.features import Features

Tree = Any
Metrics = dict[str, jax.Array]


class Learner(NamedTuple):
  """What the training loop runs: nothing else is known about a method.

  Attributes:
    init: ``(key, batch) -> state``.
    update: ``(state, batch, key) -> (state, metrics)``, one step, traceable. ``batch["image"]`` is
      ``[batch, height, width, channels]`` uint8; metrics are scalars. Those of
      `repjax.learners.spread` let the loop say when a run has collapsed.
    encode: ``(state, inputs) -> Features``, deterministic, in evaluation mode.
  """

  init: Callable[[jax.Array, Tree], Tree]
  update: Callable[[Tree, Tree, jax.Array], tuple[Tree, Metrics]]
  encode: Callable[[Tree, jax.Array], Features]


class Objective(NamedTuple):
  """A differentiable method: a loss over trainable ``params`` and the rest.

  Attributes:
    init: ``(key, batch) -> (params, extra)``. ``extra`` holds what gradients do not touch: batch
      statistics, a teacher, a queue, frozen weights.
    loss: ``(params, extra, batch, key) -> (scalar, (extra, metrics))``.
    encode: ``(params, extra, inputs) -> Features``.
    after: ``(params, extra) -> extra``, run once the optimizer has moved ``params``; the place for
      a moving-average teacher.
  """

  init: Callable[..., tuple[Tree, Tree]]
  loss: Callable[..., tuple[jax.Array, tuple[Tree, Metrics]]]
  encode: Callable[..., Features]
  after: Callable[[Tree, Tree], Tree] = lambda params, extra: extra


class GradientState(NamedTuple):
  """State of a learner that descends a gradient.

  Attributes:
    step: updates made so far, int32 scalar.
    params: trainable tree.
    extra: the objective's other state.
    opt: the optimizer's state.
  """

  step: jax.Array
  params: Tree
  extra: Tree
  opt: optax.OptState


def by_gradient(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  *,
  accumulate: int = 1,
  axis_name: str | None = None,
) -> Learner:
  """Descends an objective.

  Args:
    objective: what to descend.
    optimizer: how; its updates are applied once per call of ``update``.
    accumulate: number of equal parts that a batch is worked through in, gradients averaged, so
      that memory holds one part's activations. A loss that couples the batch couples each part.
    axis_name: mapped axis that holds the other shards of the batch; under ``pmap`` and
      ``shard_map`` only, where the objective must know it too.

  Returns:
    A learner over `GradientState`. Its metrics are the objective's, ``loss`` and ``grad_norm``.

  Raises:
    ValueError: at the first ``update``, if ``accumulate`` does not divide the batch.
  """

  def init(key, batch):
    params, extra = objective.init(key, batch)
    return GradientState(jnp.zeros((), jnp.int32), params, extra, optimizer.init(params))

  gradient = gradient_of(objective, axis_name=axis_name)

  def accumulated(params, extra, batch, key):
    size = len(jax.tree.leaves(batch)[0])
    if size % accumulate:
      raise ValueError(
        f"--accumulate={accumulate} does not divide the batch of {size}; choose a divisor"
      )
    # Part i takes rows i, i + accumulate, ...: rows stay on the device that holds them.
    parts = jax.tree.map(
      lambda x: jnp.swapaxes(x.reshape(size // accumulate, accumulate, *x.shape[1:]), 0, 1), batch
    )

    def body(carry, part):
      extra, i, total = carry
      grads, extra, metrics = gradient(params, extra, part, jax.random.fold_in(key, i))
      return (extra, i + 1, jax.tree.map(jnp.add, total, grads)), metrics

    start = (extra, 0, jax.tree.map(jnp.zeros_like, params))
    (extra, _, grads), metrics = lax.scan(body, start, parts)
    grads = jax.tree.map(lambda g: g / accumulate, grads)
    return grads, extra, jax.tree.map(lambda m: jnp.mean(m, 0), metrics)

  def update(state, batch, key):
    step = gradient if accumulate == 1 else accumulated
    grads, extra, metrics = step(state.params, state.extra, batch, key)
    updates, opt = optimizer.update(grads, state.opt, state.params)
    params = optax.apply_updates(state.params, updates)
    extra = objective.after(params, extra)
    metrics = metrics | {"grad_norm": optax.tree.norm(grads)}
    return GradientState(state.step + 1, params, extra, opt), metrics

  def encode(state, inputs):
    return objective.encode(state.params, state.extra, inputs)

  return Learner(init, update, encode)


def gradient_of(
  objective: Objective, *, axis_name: str | None = None
) -> Callable[..., tuple[Tree, Tree, Metrics]]:
  """How an objective's loss changes with its parameters, over the whole batch.

  Args:
    objective: any.
    axis_name: mapped axis that holds the other shards of the batch, if any.

  Returns:
    ``(params, extra, batch, key) -> (gradient, extra, metrics)``; ``loss`` is among the metrics.
  """

  def mean(tree):
    return tree if axis_name is None else lax.pmean(tree, axis_name)

  def loss(*args):
    # Averaged inside of the gradient too: shard_map sums gradients of what it knows to be
    # replicated by itself, pmap does not, and so both come to the same.
    value, aux = objective.loss(*args)
    return mean(value), aux

  def gradient(params, extra, batch, key):
    grad_fn = jax.value_and_grad(loss, has_aux=True)
    (value, (extra, metrics)), grads = grad_fn(params, extra, batch, key)
    grads, metrics = mean((grads, metrics))
    return grads, extra, {"loss": value, **metrics}

  return gradient


def example_keys(key: jax.Array, batch: int, *, axis_name: str | None = None) -> jax.Array:
  """One key per example that does not depend on how the batch is laid out.

  Args:
    key: a key that all shards share.
    batch: examples on this shard.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    ``[batch]`` keys; shard ``i`` gets those of rows ``i * batch`` onwards of the whole batch.
  """
  first = 0 if axis_name is None else lax.axis_index(axis_name) * batch
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(batch))


def join_views(views: Sequence[jax.Array]) -> jax.Array:
  """Puts views of a batch into one, so that an encoder and its batch statistics see all of them.

  An example's views become neighbours: a batch that is split over devices stays where it is, while
  one view after the other would send most images to another device.

  Args:
    views: arrays ``[batch, ...]`` of one shape.

  Returns:
    ``[batch * views, ...]``; `part_views` undoes it.
  """
  return jnp.stack(views, 1).reshape(-1, *views[0].shape[1:])


def part_views(x: jax.Array, views: int) -> tuple[jax.Array, ...]:
  """Takes views apart that `join_views` put together.

  Args:
    x: ``[batch * views, ...]``.
    views: their number.

  Returns:
    One ``[batch, ...]`` array per view.
  """
  x = x.reshape(-1, views, *x.shape[1:])
  return tuple(x[:, i] for i in range(views))


def init_module(module: nn.Module, key: jax.Array, *args: Any, **kwargs: Any) -> tuple[Tree, Tree]:
  """Makes a module's variables, parameters apart from the rest.

  Args:
    module: any.
    key: of the parameters.
    *args: what the module is called with.
    **kwargs: likewise.

  Returns:
    Its ``params``, and its other collections, such as ``batch_stats``, by name.
  """
  variables = module.init(key, *args, **kwargs)
  return variables.get("params", {}), {k: v for k, v in variables.items() if k != "params"}


def apply_module(
  module: nn.Module, params: Tree, rest: Tree, *args: Any, train: bool = False, **kwargs: Any
) -> tuple[Any, Tree]:
  """Calls a module whose variables `init_module` made.

  Args:
    module: any whose call takes ``train``.
    params: its parameters.
    rest: its other collections.
    *args: what it is called with.
    train: whether it is in training mode, in which it may change ``rest``.
    **kwargs: as ``args``.

  Returns:
    What the module returns, and ``rest`` as it is afterwards.
  """
  variables = {"params": params, **rest}
  if train and rest:
    return module.apply(variables, *args, train=True, mutable=list(rest), **kwargs)
  return module.apply(variables, *args, train=train, **kwargs), rest


def labelled_mean(
  label: jax.Array, *, axis_name: str | None = None
) -> Callable[[jax.Array], jax.Array]:
  """How to average over the examples of a batch that have a label.

  Args:
    label: ``[batch]`` integers, -1 where there is none.
    axis_name: mapped axis that holds the rest of the batch, if any. Shards may hold different
      numbers of labels, or none; each weighs an example alike.

  Returns:
    ``[batch] -> scalar``, whose mean over the shards is that over the whole batch; 0 without any
    label.
  """
  known = label >= 0
  count, shards = jnp.sum(known), 1
  if axis_name is not None:
    count, shards = lax.psum((count, 1), axis_name)
  return lambda x: shards * jnp.sum(jnp.where(known, x, 0)) / jnp.maximum(count, 1)
