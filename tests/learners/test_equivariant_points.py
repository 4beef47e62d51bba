"""Equivariant points: what a scene is put through, and the three terms of the loss."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np

from repjax.encoders import MLP, PointNet
from repjax.learners import equivariant_points
from repjax.learners.equivariant_points import features_at, move_scale_flip, turn_upright

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(16, 6, 3)).astype(np.float32)
FLOW = RNG.normal(size=(16, 6, 3)).astype(np.float32)
BATCH = {"points": POINTS, "next": (POINTS + FLOW)[:, ::-1], "flow": FLOW}
NETS = PointNet((5,), (6, 4)), MLP((4,)), MLP((5, 4))
LEARNERS = {
  "equivariant_points": lambda axis: equivariant_points(
    *NETS, angles=4, momentum=0.9, axis_name=axis
  )
}


def batch():
  return BATCH


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(LEARNERS["equivariant_points"], layout, batch=batch)


def test_the_teacher_is_a_moving_average_of_encoder_and_projector():
  start, states, _ = layouts.steps(LEARNERS["equivariant_points"], batch=batch)
  teacher = start.extra["teacher"].params
  assert set(teacher) == {"encoder", "patch_projector"}
  for state in states:
    online = {part: state.params[part] for part in teacher}
    teacher = jax.tree.map(lambda t, p: 0.9 * t + 0.1 * p, teacher, online)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, state.extra["teacher"].params, teacher)


def test_points_are_a_set_to_the_encoder():
  params = jax.jit(NETS[0].init)(jax.random.key(0), POINTS)
  encode = jax.jit(lambda points: NETS[0].apply(params, points))
  order = RNG.permutation(6)
  ours, mixed = encode(POINTS), encode(POINTS[:, order])
  np.testing.assert_allclose(mixed.pooled, ours.pooled, atol=1e-6)
  np.testing.assert_allclose(mixed.tokens, ours.tokens[:, order], atol=1e-6)
  moved = POINTS.copy()
  moved[:, 0] += 5
  assert np.abs(encode(moved).tokens[:, 1] - ours.tokens[:, 1]).max() > 1e-3


def test_a_scene_moves_as_one_and_turns_about_the_vertical():
  moved = np.asarray(jax.jit(move_scale_flip)(jax.random.key(0), POINTS[0]))
  lengths = lambda x: np.linalg.norm(x[:, None] - x[None], axis=-1)[~np.eye(6, dtype=bool)]
  ratio = lengths(moved) / lengths(POINTS[0])
  np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
  assert 0.95 <= ratio[0] <= 1.05
  turned = turn_upright(POINTS[0], jnp.pi / 2)
  wanted = np.stack([-POINTS[0, :, 1], POINTS[0, :, 0], POINTS[0, :, 2]], 1)
  np.testing.assert_allclose(turned, wanted, atol=1e-6)


def test_features_between_points_are_weighted_by_inverse_squared_distance():
  points = np.array([[0, 0, 0], [4, 0, 0], [0, 9, 0]], np.float32)
  at = np.array([[1, 0, 0], [4, 0, 0]], np.float32)
  out = features_at(at, points, np.eye(3, dtype=np.float32), neighbors=2)
  np.testing.assert_allclose(out, [[0.9, 0.1, 0], [0, 1, 0]], atol=1e-5)


def test_the_loss_has_its_three_terms():
  objective = equivariant_points(*NETS, lambda key, points: points, angles=1, temperature=0.5)
  params, extra = jax.jit(objective.init)(jax.random.key(0), BATCH)
  _, (_, metrics) = jax.jit(objective.loss)(params, extra, BATCH, jax.random.key(1))
  encoder, projector, predictor = NETS

  def project(points):
    tokens = encoder.apply({"params": params["encoder"]}, points).tokens
    return projector.apply({"params": params["patch_projector"]}, tokens)

  z, after = np.asarray(jax.jit(project)(POINTS)), np.asarray(jax.jit(project)(BATCH["next"]))
  unit = lambda x: np.float64(x) / np.linalg.norm(x, axis=-1, keepdims=True)
  cosine = np.einsum("bid,bjd->bij", unit(z), unit(z)) / 0.5
  contrast = np.log(np.exp(cosine).sum(-1)) - np.diagonal(cosine, axis1=1, axis2=2)
  np.testing.assert_allclose(metrics["contrast"], contrast.mean(), rtol=1e-5)
  # Points arrive where they flow to, in reverse order, and the teacher is the network at first.
  prediction = predictor.apply({"params": params["flow_predictor"]}, z)
  flow = 2 - 2 * (unit(np.asarray(prediction)) * unit(after[:, ::-1])).sum(-1)
  np.testing.assert_allclose(metrics["flow"], flow.mean(), rtol=1e-3)
  assert metrics["rotation"] == 0  # one angle alone leaves nothing to tell
