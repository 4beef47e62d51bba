"""Arithmetic: counts against formulas and published figures; only shapes are traced."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import P, ShapeDtypeStruct, lax

from repjax.encoders import ViT, resnet, vit
from repjax.train.flops import count_flops
from repjax.train.mesh import make_mesh
from repjax.train.step import compile_update


def shape(*size, dtype=jnp.float32):
  return ShapeDtypeStruct(size, dtype)


X, W = shape(16, 8), shape(8, 8)
LAYER = 2 * 16 * 8 * 8


def dense(x, w):
  return jnp.tanh(x @ w)


def two(x, w):
  return jnp.sum(dense(dense(x, w), w))


def scanned(x, w):
  return lax.scan(lambda x, _: (dense(x, w), None), x, None, length=5)[0]


mesh = make_mesh("data:-1,model:2")
one_axis = {"in_specs": (P("data"), P()), "out_specs": P("data"), "axis_names": {"data"}}
both_axes = {"in_specs": (P(("data", "model")), P()), "out_specs": P(("data", "model"))}


@pytest.mark.parametrize(
  ("f", "layers"),
  [
    (dense, 1),
    (jax.jit(dense), 1),
    (two, 2),
    (jax.grad(two, (0, 1)), 6),
    # Nobody asks for the gradient of the first layer's input.
    (jax.grad(two, 1), 5),
    (scanned, 5),
    (jax.grad(lambda *args: jnp.sum(scanned(*args)), (0, 1)), 15),
    (lambda x, w: lax.cond(x[0, 0] > 0, lambda: x, lambda: dense(x, w)), 1),
    (lambda x, w: jax.vmap(dense, (0, None))(x[:, None], w), 1),
    (lambda x, w: jax.pmap(dense, in_axes=(0, None))(x.reshape(8, 2, 8), w), 1),
    (jax.shard_map(dense, mesh=mesh, **one_axis), 1),
    (jax.shard_map(dense, mesh=mesh, **both_axes), 1),
    (jax.grad(lambda *args: jnp.sum(jax.shard_map(dense, mesh=mesh, **both_axes)(*args)), 1), 2),
  ],
)
def test_dense_layers_count_as_often_as_they_run(f, layers):
  assert count_flops(f, X, W) == layers * LAYER


@pytest.mark.parametrize("parallel", ["pjit", "pmap"])
def test_a_training_step_counts_over_all_devices(parallel):
  update = lambda w, x, key: (w + jax.grad(two, 1)(x, w), {})
  learner = type("", (), {"update": staticmethod(update)})
  step = compile_update(learner, make_mesh(), seed=0, parallel=parallel)
  assert count_flops(step, W, None, X, 0) == 5 * LAYER


@pytest.mark.parametrize("policy", [None, jax.checkpoint_policies.dots_saveable])
def test_work_that_is_done_again_counts_once(policy):
  # One output, two outputs, a last layer whose product the backward pass does not need again.
  last = lambda x, w: (x + dense(x, w) @ w, dense(x, w))
  for f in (two, lambda x, w: sum(map(jnp.sum, last(x, w)))):
    again = jax.checkpoint(f, policy=policy)
    grad = lambda f: jax.grad(f, (0, 1))
    assert count_flops(grad(again), X, W) == count_flops(grad(f), X, W)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_and_their_gradients_equal_the_formula(stride, groups):
  x, w = shape(4, 16, 16, 6), shape(3, 3, 6 // groups, 8)

  def conv(x, w):
    return lax.conv_general_dilated(
      x, w, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=groups,
    )  # fmt: skip

  forward = 2 * 4 * (16 // stride) ** 2 * 9 * (6 // groups) * 8
  assert count_flops(conv, x, w) == forward
  assert count_flops(lambda x, w: jax.vjp(conv, x, w)[1](conv(x, w)), x, w) == 4 * forward


BATCH, TOKENS, KEYS, HEADS, DIM = 2, 128, 64, 4, 32
ATTENTION = 2 * 2 * BATCH * HEADS * TOKENS * KEYS * DIM


@pytest.mark.parametrize("implementation", ["xla", "cudnn"])
def test_attention_and_its_gradient_equal_the_formula(implementation, monkeypatch):
  if implementation == "cudnn":
    # Traced, not run: its kernel hides two products forward and four backward.
    fused = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
    monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91000)
  query = shape(BATCH, TOKENS, HEADS, DIM, dtype=jnp.bfloat16)
  key = value = shape(BATCH, KEYS, HEADS, DIM, dtype=jnp.bfloat16)
  f = lambda *qkv: jax.nn.dot_product_attention(*qkv, implementation=implementation)
  loss = lambda *qkv: jnp.sum(f(*qkv).astype(jnp.float32))
  assert count_flops(f, query, key, value) == ATTENTION
  assert count_flops(jax.grad(loss, (0, 1, 2)), query, key, value) == 3 * ATTENTION


def vit_forward(dim, depth, tokens, patches, pixels):
  """Per image: four projections and two layers of fourfold width, two products of attention."""
  block = 2 * tokens * 12 * dim**2 + 4 * tokens**2 * dim
  return depth * block + 2 * patches * pixels * dim


def forward_flops(module, image):
  variables = jax.eval_shape(module.init, jax.random.key(0), image)
  return variables, count_flops(lambda v, x: module.apply(v, x).pooled, variables, image)


def test_vit_b16_equals_the_formula_and_the_published_count():
  _, flops = forward_flops(vit("vit_b16", pool="cls", scan=True), shape(1, 224, 224, 3))
  assert flops == vit_forward(768, 12, 197, 196, 768)
  # torchvision's table: 17.56 G multiply-adds, classifier included.
  assert math.isclose(flops / 2, 17.56e9, rel_tol=1e-3)


@pytest.mark.parametrize(("name", "published"), [("resnet18", 1.81e9), ("resnet50", 4.09e9)])
def test_resnets_have_the_published_count(name, published):
  # torchvision's table, in multiply-adds, classifier included.
  _, flops = forward_flops(resnet(name), shape(1, 224, 224, 3))
  assert math.isclose(flops / 2, published, rel_tol=0.01)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("remat", [False, True])
def test_training_a_vit_is_three_forward_passes_less_the_images_gradient(scan, remat):
  module = ViT(patch_size=4, dim=32, depth=2, heads=4, scan=scan, remat=remat)
  image = shape(3, 16, 16, 3)
  variables, forward = forward_flops(module, image)
  assert forward == 3 * vit_forward(32, 2, 16, 16, 48)
  grad = jax.grad(lambda v, x: jnp.sum(module.apply(v, x).pooled))
  assert count_flops(grad, variables, image) == 3 * forward - 3 * 2 * 16 * 48 * 32


def test_counts_need_no_arrays():
  big = shape(10**6, 10**6)
  assert np.isclose(count_flops(jnp.matmul, big, big), 2e18)
