"""MIST: an estimator of mutual information that is learned from samples whose answer is known."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.arrays import at_least_float32
from repjax.encoders import Features
from repjax.learners.learner import Objective, example_keys


class Joint(NamedTuple):
  """A sample of two variables, and what is known of them.

  Attributes:
    values: ``[n, dims]``, coordinates of both sides in any order; 0 where there is none.
    side: ``[dims]`` integers, 0 for a coordinate of ``x``, 1 for one of ``y``, -1 for none.
    information: scalar, mutual information in nats; of no account where it is to be told.
  """

  values: jax.Array
  side: jax.Array
  information: jax.Array


def normal_scores(values: jax.Array) -> jax.Array:
  r"""Ranks, as quantiles of the normal distribution: :math:`\Phi^{-1}((r - \tfrac12) / n)`.

  Mutual information does not change when a coordinate is mapped one to one, so that nothing is lost
  but the distance between neighbours, and all that has to be learned are copulas.

  Args:
    values: ``[n, dims]``.

  Returns:
    ``[n, dims]`` float32; of equal values the first in order is the lower.
  """
  order = jnp.argsort(jnp.argsort(values, 0), 0)
  return jax.scipy.stats.norm.ppf((order + 0.5) / len(values)).astype(jnp.float32)


class _Network(nn.Module):
  """Coordinates of a point are a set, points of a sample are a set; a level asks for a quantile."""

  coordinates: nn.Module
  points: nn.Module
  hidden: Sequence[int]

  @nn.compact
  def __call__(self, values, side, levels, *, train=False):
    batch, n, dims = values.shape
    # Which side a coordinate is of goes along with its value.
    kinds = jnp.broadcast_to(jax.nn.one_hot(side, 2)[:, None], (batch, n, dims, 2))
    there = jnp.broadcast_to((side >= 0)[:, None], (batch, n, dims))
    of_point = jnp.concatenate([values[..., None], kinds], -1).reshape(batch * n, dims, 3)
    rows = self.coordinates(of_point, train=train, where=there.reshape(batch * n, dims)).pooled
    pooled = self.points(rows.reshape(batch, n, -1), train=train).pooled
    x = jnp.broadcast_to(pooled[:, None], (*levels.shape, pooled.shape[-1]))
    x = jnp.concatenate([x, levels[..., None]], -1)
    for i, width in enumerate(self.hidden):
      x = nn.gelu(nn.Dense(width, name=f"hidden_{i}")(x))
    return nn.Dense(1, name="quantile")(x)[..., 0]


def mist(
  coordinates: nn.Module,
  points: nn.Module,
  draw: Callable[[jax.Array], Joint],
  *,
  hidden: Sequence[int] = (64,),
  asked: int = 8,
  levels: Sequence[float] = (0.05, 0.5, 0.95),
  prepare: Callable[[jax.Array], jax.Array] = normal_scores,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of an estimator of mutual information that tells quantiles.

  Every row of a batch is a joint distribution drawn afresh with a sample of it; for levels
  :math:`\tau` uniform in [0, 1] the net's answer :math:`q` to the sample and the level descends

  .. math:: \max\big(\tau (I - q),\ (\tau - 1) (I - q)\big)

  of the known information :math:`I`, so that :math:`q` becomes the :math:`\tau`-quantile of what
  such samples come from. Its spread is over the distributions of ``draw``: a prior.

  Two ways of attention: over the coordinates of a point, then over the points of a sample. The
  order of neither matters. The authors' code takes a padded point as one vector instead, so that
  there the order of coordinates does.

  Args:
    coordinates: ``([batch * n, dims, 3], where) -> Features``, such as a small `SetTransformer` of
      a coordinate's value and side.
    points: ``[batch, n, any] -> Features``, such as `SetTransformer`; any number of points.
    draw: ``key -> Joint`` of one shape, traceable.
    hidden: widths of the layers that read a pooled sample and a level.
    asked: levels that each sample is asked for in an update.
    levels: those that ``encode`` answers.
    prepare: ``[n, dims] -> [n, dims]``, what is done to samples first, here and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. Of a batch the number of its rows counts and nothing else. ``encode`` takes a
    `Joint` of arrays ``[batch, ...]`` of any n and dims, whose information it does not read, and
    answers with ``pooled [batch, levels]`` in nats, ``tokens`` and ``layers`` empty.

  References:
    Gritsai et al., `MIST: Mutual Information Estimation via Supervised Training
    <https://arxiv.org/abs/2511.18945>`_, 2025, its quantile-conditioned variant, and `code
    <https://github.com/grgera/mist>`_. The paper's equations were not at hand.
  """
  network = _Network(coordinates, points, tuple(hidden))

  def prepared(joint):
    values = jax.vmap(prepare)(at_least_float32(joint.values))
    return jnp.where(joint.side[:, None] >= 0, values, 0)

  def told(params, joint, levels, train=False):
    return network.apply({"params": params}, prepared(joint), joint.side, levels, train=train)

  def init(key, batch):
    k_draw, k_params = jax.random.split(key)
    joint = jax.vmap(draw)(jax.random.split(k_draw, 1))
    level = jnp.full((1, 1), 0.5)
    return network.init(k_params, prepared(joint), joint.side, level)["params"], {}

  def loss(params, extra, batch, key):
    rows = len(jax.tree.leaves(batch)[0])
    keys = jax.vmap(jax.random.split)(example_keys(key, rows, axis_name=axis_name))
    joint = jax.vmap(draw)(keys[:, 0])
    level = jax.vmap(lambda key: jax.random.uniform(key, (asked,)))(keys[:, 1])
    error = joint.information[:, None] - told(params, joint, level, train=True)
    value = jnp.mean(jnp.maximum(level * error, (level - 1) * error))
    return value, (extra, {"mean_information": jnp.mean(joint.information)})

  def encode(params, extra, joint):
    level = jnp.broadcast_to(jnp.asarray(levels)[None], (len(joint.side), len(levels)))
    answer = told(params, joint, level)
    return Features(answer, answer[:, :0, None], ())

  return Objective(init, loss, encode)
