"""ResNet: timm's arithmetic, published sizes, and one set of statistics on any devices."""

import functools
import json
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import P

from repjax.encoders import ResNet, resnet
from repjax.pretrained.hierarchical import TIMM_RESNET, resnet_rules
from repjax.trees import convert, revert

ROOT = pathlib.Path(__file__).parents[2]
FIXTURE = np.load(ROOT / "tests/oracles/encoders.npz")
weights = runpy.run_path(str(ROOT / "tests/oracles/encoders.py"))["weights"]


def close(x, y, tolerance=1e-5):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), x, y)


def from_timm(case, module):
  """Weights of one fixture in our layout, and theirs."""
  shapes = json.loads(str(FIXTURE[f"{case}/shapes"]))
  state = {name: weights(name, tuple(shape)) for name, shape in shapes.items()}
  like = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
  return convert(state, resnet_rules(module, TIMM_RESNET), like), state


@pytest.mark.parametrize(
  "case, side, options",
  [
    ("resnet_imagenet", 64, {"stages": (1, 1, 1, 1), "bottleneck": False}),
    ("resnet_cifar", 16, {"stages": (2, 1, 1, 1), "bottleneck": False, "stem": "cifar"}),
    ("resnet_bottleneck", 64, {"stages": (1, 2, 1, 1), "bottleneck": True}),
  ],
)
def test_equals_timm_with_its_weights(case, side, options):
  module = ResNet(**options)
  variables, state = from_timm(case, module)
  back = revert(variables, resnet_rules(module, TIMM_RESNET))
  assert all(np.array_equal(back[name], state[name]) for name in state)
  image = weights("image", (2, side, side, 3))
  features = jax.jit(module.apply)(variables, image)
  close(features.pooled, FIXTURE[f"{case}/pooled"])
  close(features.tokens, FIXTURE[f"{case}/tokens"])
  train = functools.partial(module.apply, train=True, mutable="batch_stats")
  close(jax.jit(train)(variables, image)[0].pooled, FIXTURE[f"{case}/pooled_train"], 1e-4)


@pytest.mark.parametrize(
  "name, count",
  [
    ("resnet18", 11_689_512 - 513_000),
    ("resnet34", 21_797_672 - 513_000),
    ("resnet50", 25_557_032 - 2_049_000),
    ("resnet101", 44_549_160 - 2_049_000),
    ("resnet152", 60_192_808 - 2_049_000),
  ],
)
def test_named_depths_have_the_published_parameter_counts(name, count):
  # torchvision's counts less a classifier of 1000 classes.
  variables = jax.eval_shape(resnet(name).init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
  assert sum(x.size for x in jax.tree.leaves(variables["params"])) == count


@pytest.mark.parametrize("bottleneck", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_blocks_start_as_the_identity(bottleneck):
  module = ResNet((2,), bottleneck, width=8, stem="cifar")
  image = weights("image", (2, 8, 8, 3))
  variables = jax.jit(module.init)(jax.random.key(0), image)
  shorter = ResNet((1,), bottleneck, width=8, stem="cifar")
  kept = {c: {k: v for k, v in t.items() if "block_1" not in k} for c, t in variables.items()}
  run = lambda m, v: jax.jit(m.apply)(v, image).pooled
  close(run(module, variables), run(shorter, kept))


@pytest.mark.parametrize("mapped", ["pmap", "shard_map"])
def test_statistics_value_and_gradient_are_those_of_the_whole_batch(mapped):
  image = weights("image", (16, 8, 8, 3))
  shards = len(jax.devices())
  options = {"stages": (1,), "bottleneck": False, "width": 4, "stem": "cifar"}
  dense = ResNet(**options, zero_init=False)
  sharded = ResNet(**options, zero_init=False, axis_name="data")
  variables = jax.jit(sharded.init)(jax.random.key(0), image)

  def step(module, variables, image):
    def loss(params):
      features, updated = module.apply(
        variables | {"params": params}, image, train=True, mutable="batch_stats"
      )
      return jnp.mean(features.pooled**2), updated["batch_stats"]

    return jax.value_and_grad(loss, has_aux=True)(variables["params"])

  def shard(variables, image):
    (value, stats), grads = step(sharded, variables, image)
    return jax.lax.pmean((value, grads), "data"), stats

  if mapped == "pmap":
    parts = image.reshape(shards, -1, *image.shape[1:])
    out = jax.pmap(shard, "data", in_axes=(None, 0))(variables, parts)
    (value, grads), stats = jax.tree.map(lambda x: x[-1], out)
  else:
    mesh = jax.make_mesh((shards,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    run = jax.shard_map(
      shard, mesh=mesh, in_specs=(P(), P("data")), out_specs=P(), check_vma=False
    )  # fmt: skip
    (value, grads), stats = jax.jit(run)(variables, image)
  (value_dense, stats_dense), grads_dense = jax.jit(functools.partial(step, dense))(
    variables, image
  )
  close(value, value_dense)
  close(stats, stats_dense)
  close(grads, grads_dense, 1e-4)


def test_bfloat16_is_close_to_float32_and_leaves_parameters_float32():
  options = {"stages": (1,), "bottleneck": False, "width": 8, "zero_init": False}
  image = weights("image", (2, 16, 16, 3))
  module = ResNet(**options, dtype=jnp.bfloat16)
  variables = jax.jit(module.init)(jax.random.key(0), image)
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
  low, high = (jax.jit(net.apply)(variables, image).pooled for net in (module, ResNet(**options)))
  assert low.dtype == jnp.bfloat16
  assert jnp.linalg.norm(low - high) < 0.02 * jnp.linalg.norm(high)


def test_unknown_names_list_what_there_is():
  with pytest.raises(ValueError, match=r"resnet19.*resnet18, resnet34"):
    resnet("resnet19")
  with pytest.raises(ValueError, match=r"stem='mnist'.*'imagenet' or 'cifar'"):
    jax.eval_shape(
      resnet("resnet18", stem="mnist").init, jax.random.key(0), jnp.zeros((1, 8, 8, 3))
    )
