"""Learners from frozen teachers: what is compared, what is dropped, what never moves."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest

from repjax.encoders import MLP, VideoTransformer, ViT, class_attention
from repjax.encoders.relations import with_relations
from repjax.learners import AlignmentHeads, Teacher, hybrid_distill, umt
from repjax.learners.hybrid_distill import distinct

RNG = np.random.default_rng(0)
VIDEO = {"video": RNG.integers(0, 256, (16, 2, 4, 4, 3), np.uint8)}
SMALL = {"image": layouts.BATCH["image"][:, :4, :4]}
CLIPS = jnp.asarray(VIDEO["video"] / 255, jnp.float32)
IMAGE = jnp.asarray(SMALL["image"] / 255, jnp.float32)


def vit(depth=1, **options):
  return ViT(patch_size=2, dim=8, depth=depth, heads=2, **options)


def frozen(net, seed):
  params = jax.jit(net.init)(jax.random.key(seed), IMAGE)["params"]
  leaves = jax.tree.leaves(params)
  keys = jax.tree.unflatten(
    jax.tree.structure(params), list(jax.random.split(jax.random.key(seed), len(leaves)))
  )
  params = jax.tree.map(lambda x, k: x + 0.3 * jax.random.normal(k, x.shape), params, keys)
  return Teacher(params, {})


TEACHER = vit(class_token=True)
MADE = {seed: frozen(TEACHER, seed) for seed in (1, 2)}


def hybrid(axis, net=None, **options):
  net = net or vit()
  teachers = (TEACHER, MADE[1], TEACHER, MADE[2])
  same = lambda key, image: image
  return hybrid_distill(net, MLP((8,)), *teachers, same, axis_name=axis, **options)


def video(axis, **options):
  student = VideoTransformer(2, 8, 1, 2, frames=2)
  return umt(student, AlignmentHeads(8), TEACHER, MADE[1], ratio=0.5, axis_name=axis, **options)


LEARNERS = {"hybrid_distill": (hybrid, SMALL), "umt": (video, VIDEO)}
names = pytest.mark.parametrize("name", list(LEARNERS))


BATCHES = {name: (lambda batch=batch: batch) for name, (_, batch) in LEARNERS.items()}


@layouts.everywhere
@names
def test_eight_devices_make_the_steps_of_one(name, layout):
  layouts.check_layout(LEARNERS[name][0], layout, batch=BATCHES[name])


@names
def test_teachers_stay_as_they_were(name):
  _, states, _ = layouts.steps(LEARNERS[name][0], batch=BATCHES[name])
  extra = states[-1].extra
  kept = (extra["contrastive"], extra["masked"]) if name == "hybrid_distill" else extra["teacher"]
  wanted = (MADE[1], MADE[2]) if name == "hybrid_distill" else MADE[1]
  jax.tree.map(np.testing.assert_array_equal, kept, wanted)


def test_relations_are_what_attention_is_made_of():
  net, variables = TEACHER, {"params": MADE[1].params}
  features, (seen,) = jax.jit(lambda x: with_relations(net, variables, x, layers=(-1,)))(IMAGE)
  np.testing.assert_allclose(features.tokens, net.apply(variables, IMAGE).tokens, atol=1e-5)
  # A block less its feed-forward part: the input and the attention's result.
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), MADE[1].params)
  q, k, v = (np.asarray(x, np.float64) for x in seen)
  scores = q @ k.swapaxes(-1, -2) / 2
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  out = (weights @ v).swapaxes(1, 2).reshape(16, 5, 8)
  out = out @ p["block_0"]["attention"]["out"]["kernel"] + p["block_0"]["attention"]["out"]["bias"]
  _, got = net.apply(
    variables,
    IMAGE,
    capture_intermediates=lambda module, _: module.name == "attention",
    mutable=["intermediates"],
  )
  (wanted,) = got["intermediates"]["block_0"]["attention"]["__call__"]
  np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-5)
  attention = class_attention(seen, 1)
  rows = weights[:, :, 0, 1:].mean(1)
  np.testing.assert_allclose(attention, rows / rows.sum(-1, keepdims=True), rtol=1e-4)


def test_the_tokens_that_stay_are_those_least_like_all():
  tokens = RNG.normal(size=(4, 9, 5)).astype(np.float32)
  unit = tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)
  likeness = (unit @ unit.swapaxes(1, 2)).mean(-1)
  wanted = np.sort(np.argsort(likeness, 1)[:, :4], 1)
  np.testing.assert_array_equal(distinct(jnp.asarray(tokens), 4), wanted)


def test_hybrid_distill_compares_what_its_student_kept():
  net = vit(depth=2)
  deep = vit(depth=2, class_token=True)
  teachers = (TEACHER, MADE[1], deep, masked := frozen(deep, 3))
  objective = hybrid_distill(
    net,
    MLP((8,)),
    *teachers,
    lambda key, image: image,
    stages={1: 0.75},
    layers=(0, 1),
    relation_weight=2.0,
  )
  params, extra = jax.jit(objective.init)(jax.random.key(0), SMALL)
  value, (_, metrics) = jax.jit(objective.loss)(params, extra, SMALL, jax.random.key(1))

  @jax.jit
  def again(params):
    variables = {"params": params["encoder"]}
    first = net.apply(variables, IMAGE).layers[0]
    keep = distinct(first, 3)
    pick = lambda x: jnp.take_along_axis(x, keep[..., None], 1)
    thin = lambda layer, x: pick(x) if layer == 1 else x
    student, ours = with_relations(net, variables, IMAGE, layers=(0, 1), tokens_in=thin)
    made = MLP((8,)).apply({"params": params["head"]}, student.tokens)
    tokens = pick(TEACHER.apply({"params": MADE[1].params}, IMAGE).tokens)
    _, theirs = with_relations(deep, {"params": masked.params}, IMAGE, layers=(0, 1))
    return made, tokens, keep, ours, theirs

  made, tokens, keep, ours, theirs = jax.tree.map(np.asarray, again(params))
  target = tokens - tokens.mean(-1, keepdims=True)
  target /= np.sqrt(tokens.var(-1, keepdims=True) + 1e-5)
  error = np.abs(made - target)
  wanted = np.where(error < 2, error**2 / 4, error - 1).mean()
  np.testing.assert_allclose(metrics["feature_loss"], wanted, rtol=1e-4)

  def soft(x, y):
    scores = np.einsum("bhid,bhjd->bhij", x, y) / 2
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)

  total = 0
  for layer, (our, their) in enumerate(zip(ours, theirs, strict=True)):
    their = [x[:, :, 1:] for x in their]
    if layer == 1:
      their = [np.take_along_axis(x, keep[:, None, :, None], 2) for x in their]
    for i, j in ((0, 1), (2, 2)):
      t, s = soft(their[i], their[j]), soft(our[i], our[j])
      total += (t * np.log(t / s)).sum(-1).mean() / 2
  np.testing.assert_allclose(metrics["relation_loss"], total, rtol=1e-4)
  np.testing.assert_allclose(value, wanted + 2 * total, rtol=1e-4)


def test_umt_aligns_what_is_seen_with_the_teachers_tokens():
  student, heads = VideoTransformer(2, 8, 1, 2, frames=2), AlignmentHeads(8)
  # Nothing is hidden, so that all places count whatever was drawn.
  objective = umt(student, heads, TEACHER, MADE[1], ratio=0.0)
  params, extra = jax.jit(objective.init)(jax.random.key(0), VIDEO)
  value, _ = jax.jit(objective.loss)(params, extra, VIDEO, jax.random.key(1))
  frames = jax.jit(TEACHER.apply)({"params": MADE[1].params}, CLIPS.reshape(-1, 4, 4, 3)).tokens
  features = jax.jit(student.apply)({"params": params["encoder"]}, CLIPS)
  made = jax.jit(heads.apply)({"params": params["heads"]}, features)
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  cosine = (unit(np.asarray(made[0])) * unit(np.asarray(frames).reshape(16, 8, 8))).sum(-1)
  np.testing.assert_allclose(value, 2 - 2 * cosine.mean(), rtol=1e-4)


def test_umt_sees_what_its_teacher_attends_to():
  seen = []

  class Spy(VideoTransformer):
    def __call__(self, video, *, train=False, keep=None):
      if train:
        jax.debug.callback(lambda places: seen.append(np.asarray(places)), keep)
      return super().__call__(video, train=train, keep=keep)

  counts = {}
  variables, frames = {"params": MADE[1].params}, CLIPS.reshape(-1, 4, 4, 3)
  tell = jax.jit(lambda x: with_relations(TEACHER, variables, x, layers=(-1,))[1])
  (last,) = tell(frames)
  wanted = np.asarray(class_attention(last, 1)).reshape(16, 2, 4)
  for choose in ("attention", "random"):
    objective = umt(
      Spy(2, 8, 1, 2, frames=2), AlignmentHeads(8), TEACHER, MADE[1], ratio=0.75, choose=choose
    )
    params, extra = jax.jit(objective.init)(jax.random.key(0), VIDEO)
    seen.clear()
    loss = jax.jit(objective.loss)
    for i in range(200):
      loss(params, extra, VIDEO, jax.random.key(i))
    jax.effects_barrier()
    places = np.stack(seen)  # one of four patches of each of two frames
    counts[choose] = np.stack(
      [[(places[:, :, f] == 4 * f + p).mean(0) for p in range(4)] for f in range(2)]
    ).transpose(2, 0, 1)
  np.testing.assert_allclose(counts["attention"], wanted, atol=0.2)
  np.testing.assert_allclose(counts["random"], np.full_like(wanted, 0.25), atol=0.2)
  assert np.abs(counts["attention"] - wanted).mean() < 0.05
  assert np.abs(counts["random"] - wanted).mean() > np.abs(counts["attention"] - wanted).mean()
