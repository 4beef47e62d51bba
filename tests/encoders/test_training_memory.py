"""What encoders keep for the backward pass, and in which precision they multiply."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import erf

from repjax.augment import crop_flip, simclr_augment
from repjax.encoders import MLP, ViT, resnet
from repjax.encoders.attend import attend
from repjax.encoders.positions import Rotation, rotary_2d
from repjax.encoders.transformer import Attention, Block, FeedForward, gelu
from repjax.learners import simclr, simmim, supervised

BFLOAT16 = jnp.bfloat16
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 16)), jnp.float32)


def kept(module, x, **kwargs):
  """Arrays of activations that the backward pass of a module reads: what `jax.vjp` closes over."""
  variables = jax.eval_shape(lambda: module.init(jax.random.key(0), x, **kwargs))
  pullback = jax.eval_shape(lambda v, x: jax.vjp(module.apply, v, x)[1], variables, x)
  parameters = {leaf.shape for leaf in jax.tree.leaves(variables)}
  return [leaf for leaf in jax.tree.leaves(pullback) if leaf.shape not in parameters]


def test_gelu_and_its_gradients_equal_the_definition_in_float64():
  x = np.linspace(-9, 9, 2001)
  with jax.enable_x64(True):
    definition = lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2)))
    value, slope = (jax.vmap(f)(x) for f in (definition, jax.grad(definition)))
    curve = jax.vmap(jax.grad(jax.grad(definition)))(x)
  x = x.astype(np.float32)
  np.testing.assert_allclose(gelu(x), value, atol=1e-6)
  np.testing.assert_allclose(jax.vmap(jax.grad(gelu))(x), slope, atol=1e-6)
  np.testing.assert_allclose(jax.vmap(jax.grad(jax.grad(gelu)))(x), curve, atol=1e-5)
  np.testing.assert_allclose(jax.jvp(gelu, (x,), (np.ones_like(x),))[1], slope, atol=1e-6)


# Fewer keys than 32 are multiplied as they come, more with heads first; windows are a further axis.
@pytest.mark.parametrize("shape", [(2, 5, 3, 8), (2, 33, 3, 8), (2, 3, 5, 2, 8), (1, 2, 32, 2, 8)])
def test_attention_and_its_gradients_equal_the_definition_in_float64(shape):
  rng = np.random.default_rng(0)
  query, key, value, weight = rng.normal(size=(4, *shape))
  query, weight = query[..., :4, :, :], weight[..., :4, :, :]
  bias = rng.normal(size=(*[1] * (len(shape) - 3), shape[-2], 4, shape[-3]))
  weigh = lambda x: jnp.sum(jnp.asarray(weight, x.dtype) * x)

  def definition(query, key, value, bias):
    scores = jnp.einsum("...qhd,...khd->...hqk", query, key) / np.sqrt(8) + bias
    shares = jnp.exp(scores) / jnp.sum(jnp.exp(scores), -1, keepdims=True)
    return weigh(jnp.einsum("...hqk,...khd->...qhd", shares, value))

  with jax.enable_x64(True):
    expected = jax.value_and_grad(definition, (0, 1, 2, 3))(query, key, value, bias)
    expected = jax.tree.map(np.asarray, expected)
  arrays = [x.astype(np.float32) for x in (query, key, value, bias)]
  loss = lambda *args: weigh(attend(*args[:3], bias=args[3]))
  close = lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-5)
  jax.tree.map(close, jax.value_and_grad(loss, (0, 1, 2, 3))(*arrays), expected)
  direction = [x[::-1] for x in arrays]
  slope = jax.jvp(loss, arrays, direction)[1]
  close(slope, sum(np.sum(g * d) for g, d in zip(expected[1], direction, strict=True)))


def test_a_feed_forward_layer_keeps_its_input_and_what_its_two_products_read_and_give():
  widths = sorted(leaf.shape[-1] for leaf in kept(FeedForward(32), X) if leaf.ndim > 1)
  assert widths == [16, 32, 32]


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("tokens", [6, 36])
def test_a_bfloat16_vit_keeps_no_float32_activations_and_attention_weights_once(scan, tokens):
  image = jnp.zeros((2, 12, 4 * tokens // 3, 3), BFLOAT16)
  leaves = kept(ViT(4, 16, 2, 2, dtype=BFLOAT16, scan=scan), image)
  assert {leaf.dtype for leaf in leaves} == {jnp.dtype(BFLOAT16)}, leaves
  weights = [leaf for leaf in leaves if leaf.shape[-2:] == (tokens, tokens)]
  assert sum(leaf.size for leaf in weights) == 2 * (2 * 2 * tokens * tokens)
  # Of queries, keys and values, with a head's 8 features in the end, one layout.
  parts = [leaf for leaf in leaves if leaf.shape[-1:] == (8,)]
  assert sum(leaf.size for leaf in parts) == 3 * 2 * (2 * tokens * 16)


def test_a_scanned_vit_keeps_no_more_than_an_unrolled_one():
  image = jnp.zeros((2, 12, 8, 3))
  sizes = [
    sum(leaf.size for leaf in kept(ViT(4, 16, 4, 2, scan=scan), image)) for scan in (False, True)
  ]
  assert sizes[1] <= sizes[0], sizes


@pytest.mark.parametrize("tokens", [pytest.param(4, marks=pytest.mark.thorough), 5])
def test_cudnn_is_given_even_lengths_and_answers_as_xla(monkeypatch, tokens):
  seen = []

  def stand_in(query, key, value, *, bias, implementation, key_value_seq_lengths=None):
    seen.append((implementation, query.shape[1] % 2, key.shape[1] % 2))
    mask = None
    if key_value_seq_lengths is not None:
      mask = (jnp.arange(key.shape[1])[None] < key_value_seq_lengths[:, None])[:, None, None]
    return original(query, key, value, bias=bias, mask=mask, implementation="xla")

  original = jax.nn.dot_product_attention
  monkeypatch.setattr(jax.nn, "dot_product_attention", stand_in)
  sin, cos = rotary_2d((1, 3), 8)
  for queries, given in (
    (None, {}),
    (X[:, :1], {}),
    (None, {"rotation": Rotation(sin, cos)}),
    (None, {"rotation": Rotation(*(x[:, :, None].repeat(2, 2) for x in (sin, cos)))}),
    (X[:, :1], {"bias": X[:1, None, :1, :tokens]}),
  ):
    x = X[:, :tokens]
    modules = Attention(2, implementation="cudnn"), Attention(2, implementation="xla")
    variables = jax.jit(modules[1].init)(jax.random.key(0), x, queries)
    loss = lambda v, x, module: jnp.sum(jnp.sin(module.apply(v, x, queries, **given)))
    step = jax.jit(jax.value_and_grad(loss, (0, 1)), static_argnums=2)
    results = [step(variables, x, module) for module in modules]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), *results)
  assert set(seen) == {("cudnn", 0, 0)}


def products(jaxpr):
  """``(operand dtypes, name stack)`` of every product and convolution, inner programs too."""
  for eqn in jaxpr.eqns:
    if eqn.primitive.name in ("dot_general", "conv_general_dilated"):
      yield {x.aval.dtype for x in eqn.invars[:2]}, str(eqn.source_info.name_stack)
    for value in eqn.params.values():
      for item in value if isinstance(value, tuple | list) else (value,):
        item = getattr(item, "jaxpr", item)
        if hasattr(item, "eqns"):
          yield from products(item)


VIT = functools.partial(ViT, 8, 16, 2, 2, dtype=BFLOAT16, positions="learned")
OBJECTIVES = {
  "vit": lambda: supervised(VIT(pool="attention"), 10, crop_flip(16)),
  "vit scan remat": lambda: supervised(VIT(scan=True, remat=True), 10, crop_flip(16)),
  "vit conv": lambda: supervised(VIT(stem="conv"), 10, crop_flip(16)),
  "simmim": lambda: simmim(VIT(), crop_flip(16), patch_size=8),
  "simclr resnet": lambda: simclr(
    resnet("resnet18", width=4, dtype=BFLOAT16),
    MLP((8, 4), norm="batch", dtype=BFLOAT16),
    simclr_augment(16),
  ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_products_of_a_bfloat16_step_take_bfloat16(name):
  objective = OBJECTIVES[name]()
  batch = {"image": jnp.zeros((2, 16, 16, 3), jnp.uint8), "label": jnp.zeros(2, jnp.int32)}
  params, extra = jax.eval_shape(objective.init, jax.random.key(0), batch)
  step = jax.make_jaxpr(jax.grad(objective.loss, has_aux=True))
  found = list(products(step(params, extra, batch, jax.random.key(0)).jaxpr))
  # In float32 stay augmentation, a classifier's logits and the contrast of two views.
  float32 = [stack for dtypes, stack in found if dtypes != {jnp.dtype(BFLOAT16)}]
  inside = [s for s in float32 if any(part in s for part in ("ViT", "ResNet", "MLP"))]
  assert not inside, inside
  allowed = {"simmim": 0, "simclr resnet": 3}.get(name, 3)
  assert len([s for s in float32 if "vmap" not in s]) == allowed, float32
  assert len(found) > len(float32) + 10


def test_a_bfloat16_block_computes_what_a_float32_one_does():
  blocks = Block(2, 32), Block(2, 32, dtype=BFLOAT16)
  variables = jax.jit(blocks[0].init)(jax.random.key(0), X)
  loss = lambda x, block: jnp.sum(jnp.sin(block.apply(variables, x).astype(jnp.float32)))
  gradient = jax.jit(jax.grad(loss), static_argnums=1)
  a, b = (gradient(X, block) for block in blocks)
  np.testing.assert_allclose(a, b, atol=0.05)
