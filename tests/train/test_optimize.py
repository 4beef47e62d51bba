"""Optimizers: each rule written out in NumPy, with decay on kernels alone."""

import jax
import numpy as np
import optax
import pytest

from repjax.train.optimize import adamw, kernels, lars, sgd, warmup_cosine

RNG = np.random.default_rng(0)
SHAPES = {
  "block": {"dense": {"kernel": (3, 2), "bias": (2,)}, "norm": {"scale": (2,)}},
  "positions": (4, 2),
}
is_shape = lambda x: isinstance(x, tuple)
draw = lambda: jax.tree.map(
  lambda shape: RNG.normal(size=shape).astype(np.float32), SHAPES, is_leaf=is_shape
)
PARAMS, GRADS = draw(), [draw() for _ in range(4)]
DECAYED = {
  "block": {"dense": {"kernel": True, "bias": False}, "norm": {"scale": False}},
  "positions": False,
}
RATE = lambda step: 0.3 / (1 + step)


def descended(optimizer, grads=GRADS):
  update = jax.jit(optimizer.update)
  params, state = PARAMS, optimizer.init(PARAMS)
  for grad in grads:
    updates, state = update(grad, state, params)
    params = optax.apply_updates(params, updates)
  return params


def by_rule(rule, grads=GRADS):
  """Runs ``rule(step, w, g, memory, is_kernel) -> (w, memory)`` leaf by leaf in float64."""

  def leaf(w, is_kernel, *gs):
    w, memory = w.astype(np.float64), (0.0, 0.0)
    for step, g in enumerate(gs):
      w, memory = rule(step, w, g.astype(np.float64), memory, is_kernel)
    return w

  return jax.tree.map(leaf, PARAMS, DECAYED, *grads)


def close(ours, wanted):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), ours, wanted)


def test_kernels_alone_are_marked():
  assert kernels(PARAMS) == DECAYED


def test_adamw_equals_its_definition():
  def rule(step, w, g, memory, is_kernel):
    m, v = memory
    m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
    m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.95 ** (step + 1))
    return w - RATE(step) * (m_hat / (np.sqrt(v_hat) + 1e-8) + 0.2 * is_kernel * w), (m, v)

  close(descended(adamw(RATE, weight_decay=0.2, b2=0.95)), by_rule(rule))


def test_sgd_equals_pytorchs():
  def rule(step, w, g, memory, is_kernel):
    m = 0.8 * memory[0] + g + 0.2 * is_kernel * w
    return w - RATE(step) * m, (m, 0)

  close(descended(sgd(RATE, weight_decay=0.2, momentum=0.8)), by_rule(rule))


def test_lars_equals_its_definition():
  def rule(step, w, g, memory, is_kernel):
    g = g + 0.2 * is_kernel * w
    # The paper's eq. 6 has |g| + 0.2 |w| below the line, SimCLR's code and ours this.
    trust = 0.001 * np.linalg.norm(w) / np.linalg.norm(g) if is_kernel else 1
    m = 0.8 * memory[0] + RATE(step) * trust * g
    return w - m, (m, 0)

  close(descended(lars(RATE, weight_decay=0.2, momentum=0.8)), by_rule(rule))


def test_lars_moves_kernels_by_their_own_length_whatever_the_gradients():
  scaled = [jax.tree.map(lambda g: 100 * g, grad) for grad in GRADS[:1]]
  after = descended(lars(2.0, weight_decay=0.0), scaled)
  close(
    after["block"]["dense"]["kernel"],
    descended(lars(2.0, weight_decay=0.0), GRADS[:1])["block"]["dense"]["kernel"],
  )
  w = PARAMS["block"]["dense"]["kernel"]
  moved = np.linalg.norm(after["block"]["dense"]["kernel"] - w)
  np.testing.assert_allclose(moved, 2 * 0.001 * np.linalg.norm(w), rtol=1e-3)


@pytest.mark.parametrize("rule", [adamw, sgd, lars])
def test_clipping_shortens_long_gradients_and_spares_short_ones(rule):
  norms = [np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(grad))) for grad in GRADS]
  limit = float(np.median(norms))
  assert min(norms) < limit < max(norms)
  short = [
    jax.tree.map(lambda g: g * np.float32(min(1, limit / norm)), grad)
    for grad, norm in zip(GRADS, norms, strict=True)
  ]
  close(descended(rule(RATE, clip=limit)), descended(rule(RATE), short))


@pytest.mark.parametrize(
  ("steps", "warmup", "rising"), [(20, 0.1, 2), (20, 0.5, 10), (7, 0.0, 0), (100, 0.29, 29)]
)
def test_warmup_cosine_equals_its_closed_form(steps, warmup, rising):
  rate = warmup_cosine(0.3, steps, warmup=warmup)
  for step in range(steps + 3):
    share = min((step - rising) / (steps - rising), 1)
    wanted = 0.3 * (step / rising if step < rising else (1 + np.cos(np.pi * share)) / 2)
    np.testing.assert_allclose(rate(step), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("warmup", [-0.1, 1, 5])
def test_warmup_out_of_range_is_named(warmup):
  with pytest.raises(ValueError, match=rf"--warmup={warmup} .*choose a number in \[0, 1\)"):
    warmup_cosine(0.1, 10, warmup=warmup)
