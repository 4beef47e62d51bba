"""CLCA: a NumPy statement of cache and head, and what is left without them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf, softmax
from torch_names import weights

from repjax import select
from repjax.encoders import CLCA, ViT

IMAGE = weights("image", (2, 16, 16, 3))
LAYERS = (0, 2)
EVIT = select.fuse_between({0: 5, 2: 3}, prefix=3, traced=False)
VIT = ViT(
  patch_size=4, dim=16, depth=4, heads=2, pool="cls", positions="learned", registers=2, reduce=EVIT
)


def drawn(module):
  """Variables in which no number is at a special value, running variances positive."""
  shapes = jax.eval_shape(module.init, jax.random.key(0), IMAGE)
  paths, tree = jax.tree.flatten_with_path(shapes)
  draw = lambda path, x: (
    weights(jax.tree_util.keystr(path), x.shape) * 0.5
    + (1.0 if path[-1].key in ("var", "scale") else 0.0)
  )
  fixed = [np.abs(draw(path, x)) if path[-1].key == "var" else draw(path, x) for path, x in paths]
  return jax.tree.unflatten(tree, fixed)


def gelu(x):
  return x * (1 + erf(x / np.sqrt(2))) / 2


def norm(p, x):
  centred = x - x.mean(-1, keepdims=True)
  return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def dense(p, x):
  return x @ p["kernel"] + p["bias"]


def block(p, x, left):
  """One image: attention, EViT behind a class token and two carriers, feed-forward layer."""
  y, seen, out = norm(p["norm_1"], x), 0, []
  q, k, v = (dense(p["attention"][name], y) for name in ("query", "key", "value"))
  for part in np.split(np.arange(16), 2):
    pays = softmax(q[:, part] @ k[:, part].T / np.sqrt(8), -1)
    out.append(pays @ v[:, part])
    seen = seen + pays[0, 3:] / 2
  x = x + dense(p["attention"]["out"], np.concatenate(out, -1))
  if left:
    order = np.argsort(-seen)
    best, rest = np.sort(order[: left - 1]), order[left - 1 :]
    fused = (x[3 + rest] * seen[rest, None]).sum(0)
    x = np.concatenate([x[:3], x[3 + best], fused[None]])
  return x + dense(p["mlp"]["down"], gelu(dense(p["mlp"]["up"], norm(p["norm_2"], x))))


def expected(variables, image):
  """One image, as the official code has it, with carriers in front."""
  variables = jax.tree.map(lambda x: np.asarray(x, np.float64), variables)
  params, running = variables["params"], variables["batch_stats"]
  p = params["vit"]
  patches = image.reshape(4, 4, 4, 4, 3).swapaxes(1, 2).reshape(16, 48)
  x = dense(p["patch"], patches) + p["positions"][1:]
  x = np.concatenate([p["class_token"] + p["positions"][:1], p["registers"], x])
  stored, classes = [], []
  for i in range(4):
    x = block(p[f"block_{i}"], x, {0: 5, 2: 3}.get(i))
    if i in LAYERS or i == 3:
      classes.append(x[0])
    if i in LAYERS:
      x = np.concatenate([x, *stored])
      stored = []
    if i < 2:
      stored.append(x[1:3])

  def batch_norm(name, x):
    own, there = params[name], running[name]
    return (x - there["mean"]) / np.sqrt(there["var"] + 1e-5) * own["scale"] + own["bias"]

  layers = [batch_norm("norm_1", c) for c in classes]
  mixed = [
    sum(w[:, i] * c for i, c in enumerate(layers)) + b
    for w, b in zip(params["kernel"], params["bias"], strict=True)
  ]
  return len(x) - 3, gelu(batch_norm("norm_2", np.concatenate(mixed)))


def test_equals_a_numpy_statement_of_cache_and_head():
  module = CLCA(VIT, LAYERS)
  variables = drawn(module)
  features = jax.jit(module.apply)(variables, IMAGE)
  for image, tokens, pooled in zip(IMAGE, features.tokens, features.pooled, strict=True):
    left, answer = expected(variables, image.astype(np.float64))
    # Three patches, and the two carriers of each of two blocks.
    assert len(tokens) == left == 3 + 2 * 2
    np.testing.assert_allclose(pooled, answer, 1e-3, 1e-3)


def test_without_cache_and_head_it_is_the_transformer():
  module = CLCA(VIT, LAYERS, cache=False, kernels=0)
  variables = jax.jit(VIT.init)(jax.random.key(0), IMAGE)
  inside = {"params": {"vit": variables["params"]}}
  expected = jax.jit(VIT.apply)(variables, IMAGE)
  found = jax.jit(module.apply)(inside, IMAGE)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_gradients_reach_early_class_tokens_and_are_finite_in_bfloat16():
  module = CLCA(VIT.clone(dtype=jnp.bfloat16), LAYERS, dtype=jnp.bfloat16)
  variables = drawn(module)

  def loss(params):
    given = variables | {"params": params}
    features, _ = module.apply(given, IMAGE, train=True, mutable=["batch_stats"])
    return jnp.sum(features.pooled.astype(jnp.float32) ** 2)

  gradients = jax.jit(jax.grad(loss))(variables["params"])
  assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(gradients))
  assert jnp.all(jnp.any(gradients["kernel"] != 0, (0, 1)))


@pytest.mark.parametrize(
  "options, words",
  [
    ({"vit": VIT.clone(registers=0, reduce=None)}, ["pool='cls'", "registers >= 1", "'cls'", "0"]),
    ({"layers": (1, 4)}, ["(1, 4)", "0 to 3"]),
  ],
)
def test_what_it_cannot_do_is_refused(options, words):
  module = CLCA(**({"vit": VIT, "layers": LAYERS} | options))
  with pytest.raises(ValueError) as error:
    module.init(jax.random.key(0), IMAGE)
  assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)
