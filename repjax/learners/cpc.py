"""CPC: from what came so far, pick out the codes of what comes next."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax import losses
from repjax.augment import to_float
from repjax.encoders import Features
from repjax.learners.learner import Objective, apply_module, example_keys, init_module
from repjax.learners.spread import spread


class _Network(nn.Module):
  encoder: nn.Module
  context: nn.Module
  steps: int

  @nn.compact
  def __call__(self, x, *, train=False):
    codes = self.encoder(x, train=train).tokens
    context = self.context(codes, train=train)
    width = codes.shape[-1]
    predicted = nn.Dense(self.steps * width, use_bias=False, name="predictors")(context)
    return codes, context, predicted.reshape(*context.shape[:2], self.steps, width)


def cpc(
  encoder: nn.Module,
  context: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array] = lambda key, x: x,
  *,
  steps: int = 4,
  temperature: float = 1.0,
  field: str = "image",
  normalize: Callable[[jax.Array], jax.Array] = lambda x: x,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of contrastive predictive coding.

  From the state :math:`c_t` of each place at which that many follow, the next codes are predicted,
  :math:`W_k c_t` for :math:`z_{t+k}`; codes that are as many steps ahead of any other place, in any
  sequence of the batch, are the negatives.

  Args:
    encoder: inputs to `Features` whose ``tokens`` are the codes in order, each of its part of the
      input alone, such as `PatchMLP` on the rows of images.
    context: ``[batch, tokens, dim] -> [batch, tokens, out]``, causal, such as `GRU`.
    augment: ``(key, x) -> x`` for one input; none in the paper's audio and text.
    steps: how far is predicted, each with a linear map of its own.
    temperature: softmax temperature, > 0; 1 in the paper.
    field: of the batch that is looked at; floats stay, bytes become [0, 1].
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. Features are the states: ``pooled`` the last, ``tokens`` all; ``layers`` has the
    codes. Metrics include ``information``, the paper's lower bound in nats of what a state tells of
    a code, on average over steps: the logarithm of the number of choices less the loss.

  Raises:
    ValueError: at the first use, if sequences are not longer than ``steps``.

  References:
    van den Oord et al., `Representation Learning with Contrastive Predictive Coding
    <https://arxiv.org/abs/1807.03748>`_, 2018, section 2, eq. 3 to 5.
  """
  network = _Network(encoder, context, steps)

  def init(key, batch):
    return init_module(network, key, normalize(to_float(batch[field])))

  def loss(params, extra, batch, key):
    x = to_float(batch[field])
    keys = example_keys(key, len(x), axis_name=axis_name)
    x = normalize(jax.vmap(augment)(keys, x))
    (codes, state, predicted), extra = apply_module(network, params, extra, x, train=True)
    places = codes.shape[1] - steps
    if places < 1:
      raise ValueError(f"steps={steps} ahead of {codes.shape[1]} codes; choose at most one less")
    ahead = [codes[:, k + 1 : k + 1 + places] for k in range(steps)]
    flat = lambda y: y.reshape(-1, *y.shape[2:])
    per_place = losses.cpc(
      flat(predicted[:, :places]),
      flat(jnp.stack(ahead, 2)),
      temperature=temperature,
      axis_name=axis_name,
    )
    value = jnp.mean(per_place)
    choices = len(per_place) * (1 if axis_name is None else jax.lax.axis_size(axis_name))
    metrics = {"information": jnp.log(choices) - value}
    return value, (extra, metrics | spread(state[:, -1], axis_name=axis_name))

  def encode(params, extra, x):
    (codes, state, _), _ = apply_module(network, params, extra, normalize(to_float(x)))
    return Features(state[:, -1], state, (codes,))

  return Objective(init, loss, encode)
