"""Unified Normalization: the authors' rules in NumPy, one set of statistics, nothing left to do."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from repjax.encoders import Features, UnifiedNorm, fuse_norm, keep_statistics
from repjax.learners import by_gradient, supervised

DIM, WINDOW, WARMUP, STEPS = 5, 3, 5, 14
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(STEPS, 8, 4, DIM)) * RNG.uniform(0.3, 2, DIM)
INPUTS[9] *= 30  # an outlier
INPUTS = INPUTS.astype(np.float32)
COTANGENTS = RNG.normal(size=INPUTS.shape).astype(np.float32)
SCALE = RNG.uniform(0.5, 2, DIM).astype(np.float32)
BIAS = RNG.normal(size=DIM).astype(np.float32)


def module(**options):
  return UnifiedNorm(**({"window": WINDOW, "warmup": WARMUP} | options))


def start(**options):
  variables = module(**options).init(jax.random.key(0), INPUTS[0])
  params = variables["params"] | {"scale": jnp.asarray(SCALE), "bias": jnp.asarray(BIAS)}
  return params, variables["unified_stats"]


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


def step_of(norm):
  def step(params, stats, x, cotangent):
    def loss(params, x):
      variables = {"params": params, "unified_stats": stats}
      y, updated = norm.apply(variables, x, train=True, mutable="unified_stats")
      return jnp.mean(jnp.sum(y * cotangent, (1, 2))), (y, updated["unified_stats"])

    (_, (y, stats)), grads = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)
    return y, stats, grads

  return step


def run(norm, step=None):
  """Outputs, gradients of inputs and states over all steps; statistics replaced, the rest fixed."""
  step = step or jax.jit(step_of(norm))
  params, stats = start(window=norm.window)
  out = []
  for x, cotangent in zip(INPUTS, COTANGENTS, strict=True):
    y, stats, (grads, x_grad) = step(params, stats, x, cotangent)
    params = params | {k: grads[k] for k in grads if k.startswith("gradient_")}
    out.append((y, x_grad, stats["running"], params["gradient_mean"], grads["scale"]))
  return out


def restated(window, filtered, momentum=0.9, eps=1e-5):
  """The authors' update rules in float64, step by step."""
  recent, recent_g = np.zeros((window, DIM)), np.zeros((window, DIM))
  running, mean_g, outliers, out = np.ones(DIM), np.zeros(DIM), [], []
  for t, (x, cotangent) in enumerate(zip(INPUTS, COTANGENTS, strict=True), 1):
    x, g = x.astype(np.float64), cotangent.astype(np.float64) / len(x)
    own = (x * x).mean((0, 1))
    skip = window == 1
    bound = np.sqrt(recent).var(ddof=1) * window
    recent = recent.copy()
    recent[t % window] = own
    ready = t > window and t >= WARMUP and window > 1
    geometric = recent.prod(0) ** (1 / window)
    if filtered and ready and (recent.mean(0) - geometric > bound).any():
      skip, recent[t % window] = True, running
      outliers.append(t)
    moment = geometric if ready and not skip else own
    running = momentum * running + (1 - momentum) * moment
    z = x / np.sqrt(moment + eps)
    g_z = g * SCALE
    gamma = (g_z * z).mean((0, 1))
    recent_g[t % window] = mean_g if skip else gamma
    smooth = ready and not skip
    mean_g = momentum * mean_g + (1 - momentum) * (recent_g.mean(0) if smooth else gamma)
    x_grad = (g_z - (gamma if skip else mean_g) * z) / np.sqrt(moment + eps)
    out.append((SCALE * z + BIAS, x_grad, running, mean_g, (g * z).sum((0, 1))))
  return out, outliers


def close(x, y, tolerance=2e-5):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), x, y)


@pytest.mark.parametrize("window, filtered", [(WINDOW, True), (WINDOW, False), (1, False)])
def test_forward_and_backward_equal_the_authors_rules(window, filtered):
  wanted, outliers = restated(window, filtered)
  assert (10 in outliers) == filtered and len(outliers) < 4
  close(run(module(window=window, filter_outliers=filtered)), wanted)


def test_shards_see_the_statistics_of_the_whole_batch():
  step = jax.pmap(step_of(module(axis_name="data")), "data", in_axes=(None, None, 0, 0))

  def sharded(params, stats, x, cotangent):
    y, stats, (grads, x_grad) = step(params, stats, x[:, None], cotangent[:, None])
    for tree in (stats, {k: v for k, v in grads.items() if k.startswith("gradient_")}):
      close(jax.tree.map(lambda v: v[0], tree), jax.tree.map(lambda v: v[-1], tree), 0)
    stats, grads = jax.tree.map(lambda v: jnp.mean(v, 0).astype(v.dtype), (stats, grads))
    return y[:, 0], stats, (grads, x_grad[:, 0] / len(x))

  close(run(module(axis_name="data"), sharded), run(module()))


class Net(nn.Module):
  @nn.compact
  def __call__(self, image, *, train=False):
    x = UnifiedNorm(window=2, warmup=0, name="norm")(image.reshape(len(image), 1, -1), train=train)
    x = jnp.tanh(nn.Dense(4, name="up")(x))
    return Features(x[:, 0], x, (x,))


def test_an_optimizer_that_keeps_statistics_trains_and_any_other_makes_nan():
  batch = {"image": RNG.uniform(size=(8, 2, 2, 1)).astype(np.float32), "label": np.arange(8) % 3}
  objective = supervised(Net(), 3, lambda key, image: image)

  def trained(optimizer):
    learner = by_gradient(objective, optimizer)
    update = jax.jit(learner.update)
    first, _ = update(learner.init(jax.random.key(0), batch), batch, jax.random.key(1))
    return first.params, update(first, batch, jax.random.key(1))[1]["grad_norm"]

  kept, finite = trained(keep_statistics(optax.sgd(0.1)))
  moved, spoilt = trained(optax.sgd(0.1))
  assert np.isfinite(finite) and np.isnan(spoilt)
  for name, sign in (("gradient_count", -10), ("gradient_recent", -10), ("scale", 1)):
    x, y = (tree["encoder"]["norm"][name] for tree in (kept, moved))
    assert np.any(x != 0)
    close(x, sign * y, 1e-6)
  close(kept["head"], moved["head"], 1e-6)


def test_fused_into_the_next_dense_layer_nothing_changes():
  dense = nn.Dense(7)
  x = jnp.asarray(INPUTS[0])
  layer = dense.init(jax.random.key(1), x)["params"]
  layer = layer | {"bias": jnp.arange(7.0)}
  params, stats = start()
  stats = stats | {"running": jnp.asarray(RNG.uniform(0.2, 3, DIM), jnp.float32)}
  apart = module().apply({"params": params, "unified_stats": stats}, x)
  apart = dense.apply({"params": layer}, apart)
  close(dense.apply({"params": fuse_norm(params, stats, layer)}, x), apart, 1e-5)


def test_bfloat16_trains_finite_with_float32_statistics():
  norm = module(dtype=jnp.bfloat16)
  params, stats = start()
  y, stats, (grads, x_grad) = jax.jit(step_of(norm))(
    params, stats, INPUTS[0].astype(jnp.bfloat16), COTANGENTS[0]
  )
  assert y.dtype == x_grad.dtype == jnp.bfloat16
  assert {v.dtype for v in jax.tree.leaves(grads)} == {jnp.dtype(jnp.float32)}
  assert all(bool(jnp.isfinite(v).all()) for v in jax.tree.leaves((y, x_grad, grads)))


def test_an_empty_window_is_refused():
  with pytest.raises(ValueError, match=r"window >= 1, got shape \(2, 3\), window=0"):
    UnifiedNorm(window=0).init(jax.random.key(0), jnp.zeros((2, 3)))
