"""Weight Compander: the curve, its inverse, and encoders that start as they would without it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from repjax.encoders import Companded, ConvNet, ResNet, compand_tree, expand_tree
from repjax.encoders.compander import compand, expand
from repjax.learners import by_gradient, supervised

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(4, 8, 8, 1)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


def close(x, y, tolerance=1e-5):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), x, y)


def test_the_curve_is_odd_bounded_steepest_at_zero_and_undone_by_its_inverse():
  v = jnp.linspace(-50, 50, 201)
  w = compand(v, 0.3, 0.1)
  close(w, -compand(-v, 0.3, 0.1))
  close(w, [0.3 * np.arctan2(x, 0.1) for x in np.linspace(-50, 50, 201)])
  assert jnp.all(jnp.abs(w) < 0.3 * np.pi / 2)
  slope = jax.vmap(jax.grad(lambda x: compand(x, 0.3, 0.1)))(v)
  assert jnp.argmax(slope) == 100 and jnp.all(jnp.diff(slope[:101]) > 0)
  close(slope[100], 3.0)
  close(expand(compand(v / 50, 0.3, 0.1), 0.3, 0.1), v / 50, 1e-4)


@pytest.mark.parametrize("slope", [1.0, 4.0])
def test_a_tree_comes_back_and_kernels_alone_have_a_shape(slope):
  params = {
    "a": {"kernel": RNG.normal(size=(3, 4)), "bias": RNG.normal(size=4)},
    "b": {"c": {"scale": RNG.normal(size=4)}, "d": {"kernel": np.zeros((2, 2, 3, 1))}},
  }
  params = jax.tree.map(lambda x: x.astype(np.float32), params)
  free = expand_tree(params, headroom=1.2, slope=slope)
  assert sorted(free["a"]) == ["bias", "kernel", "log_height", "log_width"]
  assert sorted(free["b"]["c"]) == ["scale"] and sorted(free["b"]["d"]) == [
    "kernel",
    *sorted(free["a"])[2:],
  ]
  close(compand_tree(free), params)
  bound = np.exp(free["a"]["log_height"]) * np.pi / 2
  close(bound, 1.2 * np.abs(params["a"]["kernel"]).max())


@pytest.mark.parametrize(
  "encoder",
  [ConvNet((4, 4)), ResNet((1,), False, width=4, stem="cifar")],
  ids=["no state", "batch norm"],
)
def test_an_encoder_starts_as_it_would_without(encoder):
  plain = jax.jit(encoder.init)(jax.random.key(0), IMAGE)
  module = Companded(encoder)
  variables = jax.jit(module.init)(jax.random.key(0), IMAGE)
  # Its parameters are drawn at another path; those of the plain one go in here.
  free = expand_tree(plain["params"])
  assert jax.tree.structure(free) == jax.tree.structure(variables["params"]["encoder"])
  variables |= {"params": {"encoder": free}}
  run = lambda m, v: m.apply(v, IMAGE, train=True, mutable="batch_stats")
  features, updated = jax.jit(run, static_argnums=0)(module, variables)
  wanted, wanted_updated = jax.jit(run, static_argnums=0)(encoder, plain)
  close(features, wanted, 1e-4)
  if wanted_updated:
    close(updated["batch_stats"]["encoder"], wanted_updated["batch_stats"], 1e-4)


def test_a_learner_moves_kernels_and_the_shape_of_their_curves_by_the_chain_rule():
  batch = {"image": IMAGE, "label": np.arange(4) % 3}
  encoder = ConvNet((4,))
  through = supervised(Companded(encoder, slope=2.0), 3, lambda key, image: image)
  learner = by_gradient(through, optax.sgd(1.0))
  state = jax.jit(learner.init)(jax.random.key(0), batch)
  after, _ = jax.jit(learner.update)(state, batch, jax.random.key(1))
  plain = supervised(encoder, 3, lambda key, image: image)
  params = {
    "encoder": compand_tree(state.params["encoder"]["encoder"]),
    "head": state.params["head"],
  }
  grads, _ = jax.jit(jax.grad(plain.loss, has_aux=True))(params, {}, batch, jax.random.key(1))
  wanted = grads["encoder"]["conv_0"]["kernel"]
  before, moved = (s.params["encoder"]["encoder"]["conv_0"] for s in (state, after))
  a, b = np.exp(before["log_height"]), np.exp(before["log_width"])
  v = np.asarray(before["kernel"])
  close(before["kernel"] - moved["kernel"], wanted * a / b / (1 + (v / b) ** 2))
  close(before["log_height"] - moved["log_height"], np.sum(wanted * a * np.arctan(v / b)))
  close(
    before["log_width"] - moved["log_width"], -np.sum(wanted * a * (v / b) / (1 + (v / b) ** 2))
  )


def test_numbers_out_of_range_are_refused():
  with pytest.raises(ValueError, match=r"headroom > 1 .* got headroom=1.0, slope=1.0"):
    expand_tree({}, headroom=1.0)
