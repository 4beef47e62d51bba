"""Points in space and time: features that move with what is moved, and know how it was turned."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from repjax import losses
from repjax.arrays import at_least_float32, cross_entropy
from repjax.learners.learner import (
  Objective,
  apply_module,
  example_keys,
  init_module,
  join_views,
  part_views,
)
from repjax.learners.network import Network, encode_with
from repjax.learners.spread import spread
from repjax.learners.teacher import Schedule, advance, start_teacher
from repjax.losses.distances import squared_euclidean


def move_scale_flip(
  key: jax.Array,
  points: jax.Array,
  *,
  shift: float = 0.2,
  scale: tuple[float, float] = (0.95, 1.05),
) -> jax.Array:
  """Moves, scales and mirrors a scene, each uniformly at random.

  Args:
    key: for one scene.
    points: ``[points, 3]``.
    shift: greatest shift along each axis either way, in the unit of the points.
    scale: least and greatest scale, > 0.

  Returns:
    ``[points, 3]``, points in their order.
  """
  k_shift, k_scale, k_flip = jax.random.split(key, 3)
  by = jax.random.uniform(k_shift, (1, 3), minval=-shift, maxval=shift)
  size = jax.random.uniform(k_scale, minval=scale[0], maxval=scale[1])
  # Mirrored across the two upright planes.
  sign = jnp.where(jax.random.bernoulli(k_flip, shape=(2,)), -1.0, 1.0)
  return points * size * jnp.append(sign, 1.0)[None] + by


def turn_upright(points: jax.Array, angle: jax.Array) -> jax.Array:
  """Turns a scene about the vertical axis.

  Args:
    points: ``[points, 3]``, the third coordinate upwards.
    angle: in radians, anticlockwise seen from above.

  Returns:
    ``[points, 3]``.
  """
  x, y, z = points[:, 0], points[:, 1], points[:, 2]
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  return jnp.stack([cos * x - sin * y, sin * x + cos * y, z], 1)


def features_at(
  at: jax.Array, points: jax.Array, features: jax.Array, *, neighbors: int = 3
) -> jax.Array:
  """Features at places that are no points: those of the nearest, weighted by inverse distance.

  Args:
    at: ``[places, 3]``.
    points: ``[points, 3]``.
    features: of the points, ``[points, dim]``.
    neighbors: points that count.

  Returns:
    ``[places, dim]``.

  References:
    Qi et al., `PointNet++ <https://arxiv.org/abs/1706.02413>`_, 2017, section 3.4, eq. 2.
  """
  negative, nearest = lax.top_k(-squared_euclidean(at, points), neighbors)
  weight = 1 / (1e-8 - negative)
  weight = weight / jnp.sum(weight, 1, keepdims=True)
  return jnp.sum(weight[..., None] * features[nearest], 1)


def equivariant_points(
  encoder: nn.Module,
  projector: nn.Module,
  predictor: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array] = move_scale_flip,
  *,
  angles: int = 8,
  temperature: float = 0.1,
  momentum: Schedule = 0.99,
  contrast_weight: float = 1.0,
  rotation_weight: float = 1.0,
  flow_weight: float = 1.0,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of equivariant pretraining on sequences of point clouds.

  Three terms. Translation, scale and flip: the feature of a point in the transformed scene is that
  of the same point in the scene and of no other point there, by InfoNCE over the scene's points;
  so is the transformed feature map the map of the transformed scene. Rotation, to which an answer
  must not be blind: from the pooled features of a scene and of the scene turned about the
  vertical, tell by which of ``angles`` equal parts. Scene flow: a predictor of a point's feature in
  a frame says what a teacher sees in the next frame at the point plus its flow, as in BYOL.

  A batch has ``points`` and ``next``, ``[batch, points, 3]``, and ``flow``, by which the points of
  the first frame move, same shape.

  Args:
    encoder: points ``[batch, points, 3]`` to `Features`, such as `PointNet`.
    projector: ``[..., dim] -> [..., proj]`` on points.
    predictor: ``[..., proj] -> [..., proj]`` on points, for the flow.
    augment: ``(key, points) -> points`` of a scene, points in their order.
    angles: parts of a whole turn.
    temperature: of the contrast, > 0.
    momentum: of the teacher.
    contrast_weight: of the first term.
    rotation_weight: of the second.
    flow_weight: of the third.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. Its metrics are the three terms, ``rotation_accuracy`` and those of `spread`.

  References:
    Hegde et al., `Equivariant Spatio-Temporal Self-Supervision for LiDAR Object Detection
    <https://arxiv.org/abs/2404.11737>`_, 2024, section 3. Which nets and which loss of flow are
    ours: the paper has a voxel net and compares warped maps.
  """
  network = Network(encoder, patch_projector=projector)
  head = nn.Dense(angles)
  own = ("rotation_head", "flow_predictor")

  def init(key, batch):
    k_network, k_head, k_predictor = jax.random.split(key, 3)
    params, rest = init_module(network, k_network, batch["points"])
    seen = network.apply({"params": params, **rest}, batch["points"])
    pooled = seen.features.pooled
    pair = jnp.concatenate([pooled, pooled], -1)
    params = params | {
      "rotation_head": head.init(k_head, pair)["params"],
      "flow_predictor": predictor.init(k_predictor, seen.patches)["params"],
    }
    teacher = start_teacher(params, rest, leave_out=own)
    return params, {"rest": rest, "teacher": teacher, "step": jnp.zeros((), jnp.int32)}

  def loss(params, extra, batch, key):
    points = batch["points"]
    k_augment, k_turn = (
      example_keys(k, len(points), axis_name=axis_name) for k in jax.random.split(key)
    )
    moved = jax.vmap(augment)(k_augment, points)
    turn = jax.vmap(lambda k: jax.random.randint(k, (), 0, angles))(k_turn)
    turned = jax.vmap(turn_upright)(points, turn * (2 * math.pi / angles))

    online = {name: part for name, part in params.items() if name not in own}
    views = join_views([points, moved, turned])
    seen, rest = apply_module(network, online, extra["rest"], views, train=True)
    z, z_moved, _ = part_views(at_least_float32(seen.patches), 3)
    pooled, _, pooled_turned = part_views(seen.features.pooled, 3)

    within = lambda query, key: losses.info_nce(query, key, temperature=temperature)
    contrast = jnp.mean(jax.vmap(within)(z_moved, z))

    pair = jnp.concatenate([pooled, pooled_turned], -1)
    logits = at_least_float32(head.apply({"params": params["rotation_head"]}, pair))
    rotation = jnp.mean(cross_entropy(logits, turn))

    teacher = extra["teacher"]
    after, seen_rest = apply_module(
      network, teacher.params, teacher.rest, batch["next"], train=True
    )
    target = jax.vmap(features_at)(
      points + batch["flow"], batch["next"], at_least_float32(after.patches)
    )
    prediction = predictor.apply({"params": params["flow_predictor"]}, z)
    flat = lambda x: x.reshape(-1, x.shape[-1])
    flow = jnp.mean(losses.byol(flat(prediction), flat(target)))

    value = contrast_weight * contrast + rotation_weight * rotation + flow_weight * flow
    metrics = {
      "contrast": contrast,
      "rotation": rotation,
      "flow": flow,
      "rotation_accuracy": jnp.mean(jnp.argmax(logits, -1) == turn),
      **spread(pooled, axis_name=axis_name),
    }
    return value, (extra | {"rest": rest, "teacher": teacher._replace(rest=seen_rest)}, metrics)

  def encode(params, extra, points):
    return encode_with(encoder, params, extra["rest"], points)

  return Objective(init, loss, encode, partial(advance, momentum=momentum))
