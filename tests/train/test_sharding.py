"""Sharding: however a state lies on the mesh, an update is that of one device, in its share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax import P

from repjax.augment import crop_flip
from repjax.encoders import MLP, ResNet, ViT, vit
from repjax.encoders.transformer import Block
from repjax.learners import by_gradient, simclr, simmim, supervised
from repjax.train import Checkpoints, batch_sharding, compile_update, init_state, make_mesh
from repjax.train.feed import place_batch
from repjax.train.sharding import RULES, read_rules, state_shardings
from repjax.train.step import shape_of_state

RNG = np.random.default_rng(0)
BATCH = {
  "image": RNG.integers(0, 256, (16, 16, 16, 3), np.uint8),
  "label": RNG.integers(0, 8, 16).astype(np.int32),
}
LAYOUTS = [
  ("data:8", None),
  ("fsdp:8", None),
  ("data:2,fsdp:4", None),
  ("data:2,fsdp:4", "replicated"),
  ("model:4", None),
  ("data:4,model:2", "mlp/up/kernel=-,model; mlp/down/kernel=model,-; .*=whole"),
]
EVERYDAY = ("data:2,fsdp:2,model:2", None)


def small_vit(**options):
  return ViT(patch_size=4, dim=128, depth=2, heads=4, mlp_dim=128, dtype=float, **options)


def small_resnet():
  return ResNet(stages=(1, 1), bottleneck=False, width=64, stem="cifar", dtype=float)


def sgd(objective):
  return by_gradient(objective, optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, 0.9)))


def contrastive(**options):
  return sgd(simclr(small_vit(**options), MLP([128, 64], norm="batch", dtype=float), crop_flip(16)))


LEARNERS = {
  "simclr": contrastive,
  "simclr scanned, recomputed": functools.partial(contrastive, scan=True, remat=True),
  "simmim": lambda: sgd(simmim(small_vit(pool="cls"), crop_flip(16), patch_size=4)),
  "supervised resnet": lambda: sgd(supervised(small_resnet(), 8, crop_flip(16))),
}


def mesh_of(spec):
  sizes = [int(part.partition(":")[2]) for part in spec.split(",")]
  return make_mesh(spec, devices=jax.devices()[: int(np.prod(sizes))])


@pytest.fixture
def exact():
  """Products in float64, since rounding may move a ReLU at its kink to either side."""
  jax.config.update("jax_disable_most_optimizations", True)  # quick to compile
  with jax.enable_x64(True):
    yield
  jax.config.update("jax_disable_most_optimizations", False)


@functools.cache
def after_two_updates(name, spec, rules):
  mesh, learner = mesh_of(spec), LEARNERS[name]()
  where = state_shardings(shape_of_state(learner, BATCH), mesh, rules)
  state = init_state(learner, BATCH, seed=0, mesh=mesh, shardings=where)
  update = compile_update(learner, mesh, seed=0, shardings=where)
  kept = []
  for step in range(2):
    state, metrics = update(state, None, place_batch(BATCH, mesh), step)
    kept.append(metrics)
  assert jax.tree.map(lambda x: x.sharding, state) == where
  return jax.tree.map(np.asarray, (state, kept))


@pytest.mark.parametrize(
  ("name", "spec", "rules"),
  [("simclr", *EVERYDAY)]
  + [pytest.param("supervised resnet", "fsdp:8", None, marks=pytest.mark.thorough)]
  + [pytest.param("simclr", *x, marks=pytest.mark.thorough) for x in LAYOUTS]
  + [pytest.param(name, *EVERYDAY, marks=pytest.mark.thorough) for name in list(LEARNERS)[1:]],
  ids=lambda x: x and x.split(";")[0],
)
def test_an_update_is_that_of_one_device(exact, name, spec, rules):
  state, metrics = after_two_updates(name, spec, rules)
  wanted, wanted_metrics = after_two_updates(name, "data:1", "replicated")
  near = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  jax.tree.map(near, (state, metrics), (wanted, wanted_metrics))


def big(**options):
  encoder = vit("vit_b16", dtype=jnp.bfloat16, **options)
  return by_gradient(simclr(encoder, MLP([4096, 256]), crop_flip(224)), optax.adamw(1e-3))


IMAGES = {"image": jax.ShapeDtypeStruct((256, 224, 224, 3), np.uint8)}


@functools.cache
def shape_of_big(scan):
  return shape_of_state(big(scan=scan), IMAGES)


def nbytes_per_device(state, where):
  sizes = jax.tree.map(
    lambda x, s: np.prod(s.shard_shape(x.shape)) * x.dtype.itemsize, state, where
  )
  return sum(jax.tree.leaves(sizes))


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize(
  ("spec", "share"), [("fsdp:8", 1 / 8), ("data:2,fsdp:4", 1 / 4), ("data:4,fsdp:2", 1 / 2),
                      ("data:2,fsdp:2,model:2", 1 / 4)]
)  # fmt: skip
def test_parameters_moments_and_all_are_shared_out(scan, spec, share):
  state = shape_of_big(scan)
  ours = nbytes_per_device(state, state_shardings(state, make_mesh(spec)))
  whole = nbytes_per_device(state, state_shardings(state, make_mesh(spec), "replicated"))
  assert share <= ours / whole < share + 0.02


def test_tensor_parallel_blocks_add_up_twice():
  """Columns, then rows: between them nothing has to be brought together."""
  mesh = make_mesh("data:4,model:2")
  state = shape_of_big(False)
  where = state_shardings(state, mesh)
  block = where.params["encoder"]["block_3"]
  for name in ("query", "key", "value"):
    assert block["attention"][name]["kernel"].spec == P(None, "model")
    assert block["attention"][name]["bias"].spec == P("model")
  assert block["attention"]["out"]["kernel"].spec == P("model", None)
  assert block["mlp"]["up"]["kernel"].spec == P(None, "model")
  assert block["mlp"]["down"]["kernel"].spec == P("model", None)
  assert block["mlp"]["down"]["bias"].is_fully_replicated
  moments = [x for x in jax.tree.leaves(where.opt, is_leaf=lambda x: isinstance(x, dict))
             if isinstance(x, dict)]  # fmt: skip
  assert len(moments) == 2 and all(m["encoder"]["block_3"] == block for m in moments)


def test_stacked_blocks_lie_as_single_ones():
  mesh = make_mesh("data:2,fsdp:2,model:2")
  single, stacked = (state_shardings(shape_of_big(scan), mesh).params for scan in (False, True))
  for path, where in jax.tree_util.tree_leaves_with_path(single["encoder"]["block_0"]):
    if path[-1].key == "kernel":
      other = functools.reduce(lambda tree, k: tree[k.key], path, stacked["encoder"]["blocks"])
      assert other.spec == P(None, *where.spec)


class Text(nn.Module):
  """A text tower: words, blocks, a projection."""

  @nn.compact
  def __call__(self, words):
    x = nn.Embed(512, 128, name="words")(words)
    for i in range(2):
      x = Block(4, 512, name=f"block_{i}")(x)
    return nn.Dense(128, name="projection")(x[:, -1])


def test_text_towers_are_split_by_words_and_heads():
  mesh = make_mesh("data:2,fsdp:2,model:2")
  words = np.zeros((8, 6), np.int32)
  params = jax.eval_shape(Text().init, jax.random.key(0), words)["params"]
  where = state_shardings(params, mesh)
  assert where["words"]["embedding"].spec == P("model", "fsdp")
  assert where["block_1"]["attention"]["query"]["kernel"].spec == P("fsdp", "model")
  assert where["projection"]["kernel"].spec == P("fsdp", None)
  params = jax.tree.map(lambda x: RNG.normal(size=x.shape).astype(np.float32) / 10, params)
  f = lambda params, words: Text().apply({"params": params}, words)
  words = RNG.integers(0, 512, words.shape)
  ours = jax.jit(f)(jax.device_put(params, where), jax.device_put(words, batch_sharding(mesh)))
  np.testing.assert_allclose(ours, jax.jit(f)(params, words), rtol=1e-4, atol=1e-4)


def compiled_memory(spec):
  mesh, learner = make_mesh(spec), contrastive()
  state = shape_of_state(learner, BATCH)
  where = state_shardings(state, mesh)
  place = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)
  batch = jax.tree.map(lambda x: place(x, batch_sharding(mesh)), BATCH)
  update = compile_update(learner, mesh, seed=0, shardings=where)
  program = update.lower(jax.tree.map(place, state, where), None, batch, 0).compile()
  batch_bytes = sum(x.nbytes for x in BATCH.values()) / np.prod(
    [size for axis, size in mesh.shape.items() if axis != "model"]
  )
  return program.memory_analysis(), nbytes_per_device(state, where), batch_bytes


@pytest.mark.parametrize(
  "spec",
  [pytest.param(x, marks=pytest.mark.thorough) for x in ("data:8", "fsdp:8")] + [EVERYDAY[0]],
)
def test_the_compiled_step_holds_its_share_and_no_more(spec):
  memory, state, batch = compiled_memory(spec)
  # The step number comes on top, labels that nothing reads are left out.
  assert abs(memory.argument_size_in_bytes - state - batch) <= 64
  # The state is given up for the new one.
  assert memory.alias_size_in_bytes >= state


def test_rules_are_read_first_match_first():
  params = {"a": {"kernel": jnp.zeros((8, 16)), "bias": jnp.zeros(16)}, "b": jnp.zeros((4, 8, 16))}
  mesh = make_mesh("data:4,model:2")
  where = state_shardings(params, mesh, "a/kernel=-,model; kernel|bias=whole; b=model,-")
  assert where["a"]["kernel"].spec == P(None, "model")
  assert where["a"]["bias"].is_fully_replicated
  assert where["b"].spec == P(None, "model", None)


def test_arrays_that_no_rule_matches_are_an_error_unless_asked_otherwise():
  params = {"kernel": jnp.zeros((8, 16)), "bias": jnp.zeros(16), "count": jnp.zeros(())}
  mesh = make_mesh("data:4,model:2")
  with pytest.raises(ValueError, match=r"no rule for bias \(16,\); add one, or '.*=whole'"):
    state_shardings(params, mesh, "kernel=-,model")
  where = state_shardings(params, mesh, "kernel=-,model", strict=False)
  assert where["kernel"].spec == P(None, "model") and where["bias"].is_fully_replicated


@pytest.mark.parametrize(
  ("spec", "rules", "message"),
  [
    (
      "data:8",
      "fsdp",
      r"--sharding=fsdp splits over axis fsdp, --mesh has data; write --mesh=fsdp",
    ),
    (
      "fsdp:8",
      "tp",
      r"--sharding=tp splits over axis model, --mesh has data, fsdp; write --mesh=m",
    ),
    (
      "data:8",
      "zero",
      r"--sharding=zero is neither replicated, fsdp, tp nor a list of rules; write",
    ),
    ("data:8", "a=b=;", r"--sharding=a=b=; is neither"),
    ("data:8", "(=whole", r"--sharding: '\(' is no regular expression"),
    ("data:8", ".*=-,modle", r"--sharding names axis 'modle', --mesh has data; add modle:SIZE to"),
    ("model:8", "kernel=-,model", r"axis model:8 does not divide dimension 1 of kernel \(8, 12\)"),
    ("model:8", "kernel=-,-,model", r"gives kernel \(8, 12\) 3 axes .*name at most 2"),
  ],
)
def test_rules_that_do_not_fit_say_why_in_one_line(spec, rules, message):
  with pytest.raises(ValueError, match=message) as error:
    state_shardings({"kernel": jnp.zeros((8, 12))}, make_mesh(spec), rules)
  assert "\n" not in str(error.value)


def test_what_stays_whole_for_want_of_a_divisor_is_told(caplog):
  state_shardings({"w": jnp.zeros((129, 129)), "small": jnp.zeros(3)}, make_mesh("fsdp:8"))
  (line,) = caplog.messages
  assert line.startswith("100% of the state stays whole") and "w (129, 129)" in line


def test_the_named_rules_can_be_read():
  for text in RULES.values():
    assert read_rules(text)[-1].pattern == ".*"


@pytest.mark.thorough
def test_a_checkpoint_goes_on_under_another_layout(tmp_path):
  learner = contrastive()
  mesh = make_mesh("fsdp:8")
  where = state_shardings(shape_of_state(learner, BATCH), mesh)
  first = init_state(learner, BATCH, seed=0, mesh=mesh, shardings=where)
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(1, first, {})
  checkpoints.wait()
  mesh = make_mesh("data:2,fsdp:2,model:2")
  where = state_shardings(shape_of_state(learner, BATCH), mesh)
  restored = checkpoints.restore(shape_of_state(learner, BATCH), where)
  checkpoints.close()
  jax.tree.map(np.testing.assert_array_equal, restored.state, first)
  assert jax.tree.map(lambda x: x.sharding, restored.state) == where
