"""What learners that see a part share: encode what is left, predict the rest, compare."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from repjax.augment import Blocks, to_float
from repjax.encoders import Features
from repjax.learners.learner import Objective, Tree, apply_module, example_keys, init_module
from repjax.learners.network import encode_with
from repjax.learners.spread import spread
from repjax.learners.teacher import Schedule, advance, start_teacher


class Context(NamedTuple):
  """What a loss of predicted parts is given.

  Attributes:
    inputs: what was encoded, ``[batch, ...]``.
    parts: places that were seen, ``[batch, kept]``, and asked for, ``[batch, blocks, count]``.
    features: the encoder's, of the places seen.
    predicted: ``[batch, blocks, count, out]``.
    whole: the teacher's features of all places, without gradient; nothing without a teacher.
    teacher: the teacher's parameters, likewise.
    params: the network's parameters.
  """

  inputs: jax.Array
  parts: Blocks
  features: Features
  predicted: jax.Array
  whole: Features | None
  teacher: Tree
  params: Tree


class ContextNetwork(nn.Module):
  """An encoder of the places that are kept and a predictor of others.

  Attributes:
    encoder: takes ``keep=`` and returns `Features` whose tokens are those of the places kept.
    predictor: ``(tokens, at, targets) -> [batch, asked, out]``, such as `TokenPredictor`.
    aggregator: ``[batch, kept, dim] -> [batch, kept, dim]`` between the two, if any.
  """

  encoder: nn.Module
  predictor: nn.Module
  aggregator: nn.Module | None = None

  def __call__(
    self, x: jax.Array, parts: Blocks, *, train: bool = False
  ) -> tuple[Features, jax.Array]:
    """Encodes what is kept, and predicts each block by itself.

    Args:
      x: ``[batch, ...]``.
      parts: places kept and asked for.
      train: whether in training mode.

    Returns:
      The features, and ``[batch, blocks, count, out]``.
    """
    features = self.encoder(x, keep=parts.keep, train=train)
    tokens = features.tokens if self.aggregator is None else self.aggregator(features.tokens)
    batch, blocks, count = parts.targets.shape
    each = lambda y: jnp.repeat(y, blocks, 0)
    predicted = self.predictor(
      each(tokens), each(parts.keep), parts.targets.reshape(-1, count), train=train
    )
    return features, predicted.reshape(batch, blocks, count, -1)


def predict_from_context(
  network: ContextNetwork,
  divide: Callable[[jax.Array, jax.Array], Blocks],
  loss: Callable[[Context], jax.Array],
  *,
  field: str = "image",
  augment: Callable[[jax.Array, jax.Array], jax.Array] = lambda key, x: x,
  normalize: Callable[[jax.Array], jax.Array] = lambda x: x,
  momentum: Schedule | None = None,
  axis_name: str | None = None,
) -> Objective:
  """Builds an objective that predicts parts of an input from others.

  Args:
    network: what is trained.
    divide: ``(key, x) -> places`` for one input.
    loss: of what was seen, a scalar.
    field: of the batch that is looked at.
    augment: ``(key, x) -> x`` for one input.
    normalize: last step before the encoder, in training and in ``encode``.
    momentum: of the teacher, a number or ``step -> number``; no teacher if absent. It sees the
      whole input, in evaluation mode and with the network's batch statistics.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. Features are the teacher's if there is one. Metrics are those of `spread`, of the
    teacher's features of the whole, or else of the encoder's of the part.
  """

  def look(batch, key, axis_name=axis_name):
    x = to_float(batch[field])
    keys = [example_keys(k, len(x), axis_name=axis_name) for k in jax.random.split(key)]
    x = normalize(jax.vmap(augment)(keys[0], x))
    return x, jax.vmap(divide)(keys[1], x)

  def init(key, batch):
    k_network, k_look = jax.random.split(key)  # no axis is mapped yet
    params, rest = init_module(network, k_network, *look(batch, k_look, None))
    extra = {"rest": rest, "step": jnp.zeros((), jnp.int32)}
    if momentum is not None:
      extra["teacher"] = start_teacher(params, {})
    return params, extra

  def loss_and_extra(params, extra, batch, key):
    x, parts = look(batch, key)
    (features, predicted), rest = apply_module(network, params, extra["rest"], x, parts, train=True)
    extra, whole, teacher = extra | {"rest": rest}, None, None
    if momentum is not None:
      teacher = lax.stop_gradient(extra["teacher"].params)
      whole = lax.stop_gradient(encode_with(network.encoder, teacher, rest, x))
    seen = Context(x, parts, features, predicted, whole, teacher, params)
    pooled = (features if whole is None else whole).pooled
    return loss(seen), (extra, spread(pooled, axis_name=axis_name))

  def encode(params, extra, x):
    source = params if momentum is None else extra["teacher"].params
    return encode_with(network.encoder, source, extra["rest"], normalize(to_float(x)))

  return Objective(init, loss_and_extra, encode, partial(advance, momentum=momentum))


def at_targets(tokens: jax.Array, parts: Blocks) -> jax.Array:
  """Tokens at the places asked for.

  Args:
    tokens: of all places, ``[batch, places, dim]``.
    parts: the places.

  Returns:
    ``[batch, blocks * count, dim]``.
  """
  flat = parts.targets.reshape(len(tokens), -1)
  return jnp.take_along_axis(tokens, flat[..., None], 1)


def flat_blocks(predicted: jax.Array) -> jax.Array:
  """Predictions of all blocks in a row.

  Args:
    predicted: ``[batch, blocks, count, dim]``.

  Returns:
    ``[batch, blocks * count, dim]``, as `at_targets` orders them.
  """
  return predicted.reshape(len(predicted), -1, predicted.shape[-1])
