"""Pointer networks: their definition in NumPy, and laws of masks, teachers and lengths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.encoders import PointerNetwork

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(3, 5, 2)).astype(np.float32)
THERE = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 1, 0, 1, 0]], bool)
NETS = {
  "pointer": PointerNetwork(6),
  "end": PointerNetwork(6, end=True, again=False),
  "vocabulary": PointerNetwork(6, vocabulary=7),
}


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


def made(net):
  shapes = jax.eval_shape(net.init, jax.random.key(0), POINTS)
  rng = np.random.default_rng(1)
  return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)


def apply(net, variables, points=POINTS, **kwargs):
  steps = kwargs.pop("steps", None)
  run = jax.jit(lambda v, x, k: net.apply(v, x, steps=steps, **k))
  return run(variables, points, kwargs)


@pytest.fixture(scope="module", params=NETS)
def model(request):
  net = NETS[request.param]
  variables = made(net)
  return request.param, net, variables, apply(net, variables, where=THERE)


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def lstm(p, state, x):
  cell, hidden = state
  gate = lambda k: x @ p[f"i{k}"]["kernel"] + hidden @ p[f"h{k}"]["kernel"] + p[f"h{k}"]["bias"]
  cell = sigmoid(gate("f")) * cell + sigmoid(gate("i")) * np.tanh(gate("g"))
  return cell, sigmoid(gate("o")) * np.tanh(cell)


def definition(name, p, points, there, steps):
  """Equation 3 for one example, of the elements that are there alone."""
  p = jax.tree.map(lambda x: np.asarray(x, float), p)
  places = np.flatnonzero(there)
  state, read = (np.zeros(6), np.zeros(6)), []
  for x in points[places].astype(float):
    state = lstm(p["reader"]["cell"], state, x)
    read.append(state[1])
  inputs = list(points[places].astype(float))
  if name == "end":
    read.append(p["end"])
    inputs.append(p["inputs"][1])
    places = [*places, len(points)]
  read, pooled = np.stack(read), state[1]
  x, free, logits, pointers = p["inputs"][0], np.ones(len(read), bool), [], []
  for _ in range(steps):
    state = lstm(p["pointer"]["cell"], state, x)
    hidden = read @ p["key"]["kernel"] + state[1] @ p["pointer"]["query"]["kernel"]
    scores = (np.tanh(hidden) @ p["pointer"]["weight"]["kernel"])[:, 0]
    scores = np.where(free, scores, -np.inf)
    if name == "vocabulary":
      weights = np.exp(scores) / np.exp(scores).sum()
      out = p["pointer"]["out"]
      scores = np.concatenate([state[1], weights @ read]) @ out["kernel"] + out["bias"]
      logits.append(scores)
      pointers.append(scores.argmax())
      x = points[min(pointers[-1], len(points) - 1)].astype(float)
      continue
    best = scores.argmax()
    every = np.full(len(points) + (name == "end"), -np.inf)
    every[places] = scores
    logits.append(every)
    pointers.append(places[best])
    x = inputs[best]
    if name == "end" and best < len(read) - 1:
      free[best] = False
  return pooled, np.stack(logits), np.array(pointers)


def test_greedy_decoding_equals_its_definition_for_the_elements_that_are_there(model):
  name, _, variables, ours = model
  for i in range(3):
    pooled, logits, pointers = definition(
      name, variables["params"], POINTS[i], THERE[i], ours.logits.shape[1]
    )
    np.testing.assert_allclose(ours.features.pooled[i], pooled, atol=1e-5)
    np.testing.assert_array_equal(ours.pointers[i], pointers)
    finite = np.isfinite(logits)
    np.testing.assert_allclose(ours.logits[i][finite], logits[finite], rtol=1e-4, atol=1e-4)
    assert np.all(ours.logits[i][~finite] < -1e29)


def test_a_teacher_who_says_the_same_changes_nothing_and_another_does(model):
  _, net, variables, ours = model
  taught = apply(net, variables, where=THERE, targets=ours.pointers)
  np.testing.assert_allclose(taught.logits, ours.logits, rtol=1e-5, atol=1e-5)
  other = np.asarray(ours.pointers).copy()
  other[0, 0] = (other[0, 0] + 1) % 5
  changed = apply(net, variables, where=THERE, targets=other)
  np.testing.assert_array_equal(changed.logits[0, 0], taught.logits[0, 0])
  assert np.abs(changed.logits[0, 1] - taught.logits[0, 1]).max() > 1e-3


def test_without_repetition_pointers_are_a_permutation_until_the_end():
  pointers = np.asarray(apply(NETS["end"], made(NETS["end"]), steps=8).pointers)
  for row in pointers:
    elements = row[row < 5]
    assert len(set(elements)) == len(elements)
    assert np.all(row[5:] == 5) or len(elements) == 5


def test_longer_sequences_need_no_other_parameters_but_a_vocabulary_ends():
  longer = RNG.normal(size=(2, 9, 2)).astype(np.float32)
  shapes = lambda net, points: jax.tree.map(
    jnp.shape, jax.eval_shape(net.init, jax.random.key(0), points)
  )
  assert shapes(NETS["pointer"], longer) == shapes(NETS["pointer"], POINTS)
  ours = jax.eval_shape(NETS["vocabulary"].apply, made(NETS["vocabulary"]), longer)
  assert ours.logits.shape == (2, 9, 7)


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETS)
def test_bfloat16_has_finite_gradients(name):
  net = NETS[name].clone(dtype=jnp.bfloat16)
  targets = np.tile(np.array([0, 1, -1], np.int32), (3, 1))

  def loss(variables):
    log_p = jax.nn.log_softmax(net.apply(variables, POINTS, targets=targets).logits)
    return -jnp.sum(jnp.take_along_axis(log_p[:, :2], targets[:, :2, None], 2))

  value, gradient = jax.jit(jax.value_and_grad(loss))(jax.tree.map(jnp.asarray, made(net)))
  assert np.isfinite(value)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
  "points, options, match",
  [
    (POINTS[0], {}, r"sets \[batch, n, dim\], got shape \(5, 2\)"),
    (POINTS, {"targets": np.zeros((3, 2), int), "steps": 3}, "have 2 steps, got steps=3"),
    (POINTS, {"where": THERE[:2]}, r"\(3, 5\), got \(2, 5\)"),
  ],
)
def test_errors_name_both_and_the_way_out(points, options, match):
  with pytest.raises(ValueError, match=match):
    NETS["pointer"].init(jax.random.key(0), points, **options)
