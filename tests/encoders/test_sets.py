"""Encoders of sets: their definitions in NumPy, and laws of order, absence and partition."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.encoders import UMBC, DeepSets, SetTransformer, stream, unbiased

RNG = np.random.default_rng(0)
SET = RNG.normal(size=(3, 6, 4)).astype(np.float32)
THERE = np.arange(6)[None] < np.array([6, 4, 1])[:, None]
ORDER = np.array([3, 0, 5, 1, 4, 2])

SMALL = SetTransformer(8, 1, 2, points=3, seeds=2, pooled_depth=1, layer_norm=True)
SELF = SMALL.clone(points=0, layer_norm=False)
SLOTS = UMBC(SELF, (8,), 5, 8, 2)
MODULES = {
  "sum": DeepSets((8, 8), (8, 5), "sum"),
  "mean": DeepSets((8, 8), (8, 5), "mean"),
  "max": DeepSets((8, 8), (8, 5), "max"),
  "induced": SMALL,
  "self": SELF,
  "umbc": SLOTS,
}


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


def made(module):
  """Variables in which no parameter is at a special value such as zero."""
  shapes = jax.eval_shape(module.init, jax.random.key(0), SET)
  rng = np.random.default_rng(1)
  draw = lambda x: (rng.normal(size=x.shape) * 0.5).astype(np.float32)
  return jax.tree.map(draw, shapes)


def close(x, y, tolerance=1e-5):
  """To a share of the largest entry of all arrays: some gradients are 0 but for rounding."""
  largest = max(np.abs(leaf).max(initial=0) for leaf in jax.tree.leaves(y))
  check = lambda a, b: np.testing.assert_allclose(a, b, 0, tolerance * largest)
  jax.tree.map(check, x, y)


@pytest.fixture(scope="module", params=MODULES)
def model(request):
  """Features of some sets, of the same in another order, and of the same where absentees moved."""
  module = MODULES[request.param]
  variables = made(module)
  elements = [SET, SET[:, ORDER], np.where(THERE[..., None], SET, 1e3)]
  where = np.concatenate([THERE, THERE[:, ORDER], THERE])
  features = jax.jit(lambda v, x: module.apply(v, x, where=where))(
    variables, np.concatenate(elements)
  )
  parts = [jax.tree.map(lambda x: np.split(x, 3)[i], features) for i in range(3)]
  return request.param, variables["params"], *parts


def test_order_of_elements_permutes_tokens_alone(model):
  name, _, plain, moved, _ = model
  close(moved.pooled, plain.pooled)
  close(moved.tokens, plain.tokens if name == "umbc" else plain.tokens[:, ORDER])


def test_absent_elements_change_nothing(model):
  name, _, plain, _, absent = model
  close(absent.pooled, plain.pooled, 0)
  there = slice(None) if name == "umbc" else THERE
  close(absent.tokens[there], plain.tokens[there], 0)


def linear(p, x):
  return x @ np.asarray(p["kernel"], np.float64) + np.asarray(p["bias"], np.float64)


def normalized(p, x):
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  return x * p["scale"] + p["bias"]


def block(p, queries, elements, heads=2, dim=8):
  """Equations 6 and 7 as the official code reads them, one set and one head at a time."""
  query, key, value = (linear(p[n], x) for n, x in
                       (("query", queries), ("key", elements), ("value", elements)))  # fmt: skip
  parts = []
  for part in np.split(np.arange(dim), heads):
    scores = query[:, part] @ key[:, part].T / np.sqrt(dim)
    weights = np.exp(scores - scores.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    parts.append(query[:, part] + weights @ value[:, part])
  x = np.concatenate(parts, 1)
  x = normalized(p["norm_1"], x) if "norm_1" in p else x
  x = x + np.maximum(linear(p["out"], x), 0)
  return normalized(p["norm_2"], x) if "norm_2" in p else x


def set_transformer(p, x):
  if "gather" in p["block_0"]:
    gathered = block(p["block_0"]["gather"], p["block_0"]["points"], x)
    x = block(p["block_0"]["spread"], x, gathered)
  else:
    x = block(p["block_0"], x, x)
  seeds = block(p["pool"], p["seeds"], x)
  return x, block(p["pooled_block_0"], seeds, seeds).reshape(-1)


def deep_sets(p, x, pool):
  net = lambda p, x: linear(p["dense_1"], np.maximum(linear(p["dense_0"], x), 0))
  tokens = net(p["each"], x)
  return tokens, net(p["all"], getattr(tokens, pool)(0))


def slots(p, x):
  """One slot, head and element at a time."""
  key, value = (linear(p[n], linear(p["each"]["dense_0"], x)) for n in ("key", "value"))
  query = linear(p["query"], p["table"])
  found = np.zeros_like(query)
  for part in np.split(np.arange(8), 2):
    scores = query[:, part] @ key[:, part].T / 2
    weights = 1 / (1 + np.exp(-scores))
    weights /= weights.sum(0, keepdims=True)  # over slots
    found[:, part] = weights @ value[:, part] / weights.sum(1, keepdims=True)
  return set_transformer(p["decoder"], normalized(p["norm"], found + query))


def test_each_set_alone_equals_the_definition_in_float64(model):
  name, params, plain, *_ = model
  for i, there in enumerate(THERE):
    x = SET[i, there].astype(np.float64)
    if name == "umbc":
      tokens, pooled = slots(params, x)
      close(plain.tokens[i], tokens)
    else:
      tokens, pooled = (
        deep_sets(params, x, name) if name in ("sum", "mean", "max") else set_transformer(params, x)
      )
      close(plain.tokens[i, there], tokens)
    close(plain.pooled[i], pooled)


@pytest.mark.thorough
@pytest.mark.parametrize("name", MODULES)
def test_bfloat16_is_close_to_float32_with_finite_gradients_of_empty_sets_too(name):
  module, half = MODULES[name], {"dtype": jnp.bfloat16}
  low = module.clone(**half, **({"decoder": SELF.clone(**half)} if name == "umbc" else {}))
  variables, there = made(module), THERE & np.array([True, True, False])[:, None]

  def loss(variables):
    pooled = low.apply(variables, SET, where=there).pooled
    return jnp.sum(pooled.astype(jnp.float32)), pooled

  (_, pooled), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables)
  assert pooled.dtype == jnp.bfloat16
  plain = module.apply(variables, SET, where=there).pooled
  assert np.linalg.norm(pooled - plain) < 0.03 * np.linalg.norm(plain)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
  "activation",
  ["slot_sigmoid", "exp", *(pytest.param(n, marks=pytest.mark.thorough)
                            for n in ("slot_softmax", "sigmoid"))],
)  # fmt: skip
def test_every_partition_of_a_set_gives_the_same(activation):
  module = SLOTS.clone(activation=activation)
  variables, parts = made(module), stream(module)

  def streamed(variables, order):
    pieces = [
      x[:, order].reshape(3, 3, 2, -1).swapaxes(0, 1) for x in map(jnp.asarray, (SET, THERE))
    ]
    add = lambda sums, piece: (parts.update(variables, sums, piece[0], piece[1][..., 0]), None)
    return parts.finalize(variables, jax.lax.scan(add, parts.init(3), pieces)[0])

  def both(variables, orders):
    whole = module.apply(variables, SET, where=THERE)
    return whole, jax.vmap(streamed, (None, 0))(variables, orders)

  orders = np.stack([RNG.permutation(6) for _ in range(8)])
  whole, pieces = jax.jit(both)(variables, orders)
  close(pieces, jax.tree.map(lambda x: np.stack([x] * 8), whole))


def test_parts_of_unequal_size_are_combined_in_any_order():
  variables, parts = made(SLOTS), stream(SLOTS)
  seen = jax.jit(lambda elements: [parts.update(variables, parts.init(3), x) for x in elements])
  part, other, whole = seen([*np.split(SET, [2], 1), SET])
  close(parts.combine(part, other), parts.combine(other, part), 0)
  close(parts.combine(part, other), whole)


def test_exponential_weights_are_softmax_attention_over_the_set():
  module = SLOTS.clone(activation="exp", dims=())
  variables = made(module)
  p = variables["params"]
  sums = module.apply(variables, SET, method="sums")
  split = lambda x: x.reshape(*x.shape[:-1], 2, 4).astype(np.float32)
  query = split(np.broadcast_to(linear(p["query"], p["table"]), (3, 5, 8)))
  key, value = (split(linear(p[n], SET)) for n in ("key", "value"))
  close(sums.found / sums.weight[..., None], jax.nn.dot_product_attention(query, key, value))


@pytest.fixture(scope="module")
def gradients():
  """Of two sets of five: of the whole, by every pair, and of a stream by a piece."""
  module = SLOTS.clone(decoder=DeepSets((8, 8), (8, 4)))
  variables, elements, parts = made(module), SET[:2, :5], stream(module)
  pairs = np.array(list(itertools.combinations(range(5), 2)), np.int32)
  pairs = np.stack([pairs, pairs[::-1]], 1)  # of either set another one at a time

  def loss(variables, learn=None):
    return jnp.sum(jnp.sin(module.apply(variables, elements, learn=learn).pooled))

  def by_piece(variables):  # what a stream has seen before and after the piece 0, 1 and 3, 4
    rows = jnp.asarray(pairs[0])[..., None]
    whole = parts.combine(*(parts.update(variables, parts.init(2), x)
                            for x in (elements[:, :3], elements[:, 3:])))  # fmt: skip
    piece = module.apply(variables, jnp.take_along_axis(elements, rows, 1), method="sums")
    joined = unbiased(whole, piece, 2.5)
    return jnp.sum(jnp.sin(parts.finalize(variables, joined).pooled))

  def all_three(variables):
    grad = jax.value_and_grad
    some = jax.vmap(grad(loss), (None, 0))(variables, pairs)
    return grad(loss)(variables), some, grad(by_piece)(variables)

  return jax.jit(all_three)(variables)


def test_the_gradient_of_parts_is_that_of_the_set_on_average(gradients):
  (value, gradient), (values, parts), _ = gradients
  close(values, np.full(10, value))
  close(jax.tree.map(lambda x: x.mean(0), parts), gradient)


def test_what_lies_after_the_sums_has_the_whole_gradient_in_each_part(gradients):
  (_, gradient), (_, parts), _ = gradients
  for name in ("decoder", "norm"):
    close(jax.tree.map(lambda x: x[3], parts["params"][name]), gradient["params"][name])
  key = parts["params"]["key"]["kernel"]
  assert np.abs(key[3] - gradient["params"]["key"]["kernel"]).max() > 1e-3


def test_a_streamed_set_learns_from_one_piece(gradients):
  _, (values, parts), piece = gradients
  close((values[0], jax.tree.map(lambda x: x[0], parts)), piece)


@pytest.mark.parametrize(
  "module, arguments, match",
  [
    (DeepSets(), (SET[0],), r"sets \[batch, n, dim\].*\(6, 4\)"),
    (SetTransformer(8, heads=3), (SET,), "dim=8; choose dim=9"),
    (UMBC(SMALL, dim=8, heads=3), (SET,), "dim=8; choose dim=9"),
    (DeepSets(), (SET, THERE[:2]), r"mask of shape \(3, 6\), got \(2, 6\)"),
  ],
)
def test_errors_name_shapes_and_the_way_out(module, arguments, match):
  elements, *where = arguments
  with pytest.raises(ValueError, match=match):
    module.init(jax.random.key(0), elements, **({"where": where[0]} if where else {}))
