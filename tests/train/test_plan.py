"""Plans: rooflines, the largest batch, layouts; programs that compile and programs that do not."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import P, ShapeDtypeStruct
from jax.sharding import NamedSharding

from repjax.train.chips import Chip
from repjax.train.mesh import make_mesh
from repjax.train.plan import bytes_per_device, hint, largest_batch, layouts, make_plan, spell
from repjax.train.plan_table import describe, rank, to_json
from repjax.train.program import Memory

# Fast at nothing: each leg is set apart by a chip that is slow at it.
FAST = Chip("test", 1e30, 1e12, 1e30, link=1e30, links=1, network=0, ring=0, medium="bus")


def product(chip, *, batch_size=64):
  """A step of two products, the second of which sums over the model axis."""
  mesh = make_mesh("data:4,model:2")
  place = lambda spec, *size: ShapeDtypeStruct(
    size, jnp.float32, sharding=NamedSharding(mesh, spec)
  )  # fmt: skip
  arguments = (
    place(P("data"), batch_size, 32),
    place(P(None, "model"), 32, 128),
    place(P("model"), 128, 32),
  )
  f = jax.jit(lambda x, w, v: (x @ w) @ v, out_shardings=NamedSharding(mesh, P("data")))
  flops = 2 * 2 * batch_size * 32 * 128
  return make_plan(
    f.lower(*arguments), mesh, chip, batch_size=batch_size, model_flops=flops, arguments=arguments
  )


@pytest.mark.parametrize(
  ("slow", "binds", "seconds"),
  [
    ({"flops": 1e3}, "compute", 2 * 2 * 16 * 32 * 64 / 1e3),
    ({"link": 1e3}, "bus", 2 * (1 / 2) * 4 * 16 * 32 / 1e3),
  ],
)
def test_the_slowest_leg_binds_and_takes_its_work_over_its_rate(slow, binds, seconds):
  plan = product(FAST._replace(**slow))
  assert plan.binds == binds and np.isclose(plan.seconds, seconds)
  rate = plan.model_flops / plan.devices / plan.chip.flops
  assert np.isclose(plan.share_of_peak, rate / seconds)
  assert hint(plan)


def test_memory_binds_where_it_is_slow():
  plan = product(FAST._replace(bandwidth=1e3))
  x, w, v, hidden = 16 * 32, 32 * 64, 64 * 32, 16 * 64
  # Two products read two operands and write a result; the sum over devices reads and writes one.
  at_least = 4 * (x + w + hidden + hidden + v + x + x + x)
  assert plan.binds == "memory" and plan.seconds >= at_least / 1e3


def test_a_program_fits_if_the_memory_holds_its_peak():
  peak = product(FAST).memory.peak
  assert product(FAST._replace(memory=peak)).fits
  assert not product(FAST._replace(memory=peak - 1)).fits


def test_bytes_per_device_are_those_of_the_shards():
  mesh = make_mesh("data:4,model:2")
  place = lambda spec: ShapeDtypeStruct((8, 16), jnp.bfloat16, sharding=NamedSharding(mesh, spec))
  tree = {"whole": place(P()), "rows": place(P("data")), "both": place(P("data", "model")), "n": 3}
  assert bytes_per_device(tree) == 2 * 8 * 16 * (1 + 1 / 4 + 1 / 8)


class Refused:
  """A lowered step that the compiler refuses."""

  def __init__(self, message):
    self.message = message

  def compile(self):
    raise jax.errors.JaxRuntimeError(self.message)


@pytest.mark.parametrize(
  ("message", "needed"),
  [
    (
      "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
      "temporaries (24.07T) exceeds available HBM (15.75G).",
      24.07 * 2**40,
    ),
    ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 31.5G of 15.75G hbm.",
     31.5 * 2**30),
  ],
)  # fmt: skip
def test_a_program_that_the_compiler_refuses_is_one_that_does_not_fit(message, needed):
  mesh = make_mesh()
  x = ShapeDtypeStruct((8, 4), jnp.float32, sharding=NamedSharding(mesh, P("data")))
  plan = make_plan(
    Refused(message), mesh, FAST, batch_size=8, model_flops=1.0, arguments=x
  )  # fmt: skip
  assert not plan.fits and plan.program is None and math.isnan(plan.seconds)
  assert plan.memory.peak == 16 + int(needed)
  assert "--remat" in hint(plan)


def test_other_errors_of_the_compiler_are_not_swallowed():
  with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
    make_plan(Refused("INTERNAL: no"), make_mesh(), FAST, batch_size=8, model_flops=1, arguments=0)


def refused():
  mesh = make_mesh()
  x = ShapeDtypeStruct((8, 4), jnp.float32, sharding=NamedSharding(mesh, P("data")))
  message = "RESOURCE_EXHAUSTED: Used 31.5G of 15.75G hbm."
  return make_plan(
    Refused(message), mesh, FAST, batch_size=8, model_flops=1.0, arguments=x
  )  # fmt: skip


@pytest.mark.parametrize("known", ["all", "not a link", "no program"])
def test_plans_are_written_as_json_whatever_is_unknown(known):
  plan = refused() if known == "no program" else product(FAST)
  if known == "not a link":
    plan = plan._replace(legs=plan.legs | {"network": math.nan})
    assert "the rate of network is not known" in describe(plan)
  plain = json.loads(json.dumps(to_json(plan), allow_nan=False))
  assert plain["fits"] == plan.fits and plain["memory"]["peak"] == plan.memory.peak
  assert plain["seconds"] == (plan.seconds if plan.program else None)
  assert f"{plan.memory.peak / 2**30:.2f}" in describe(plan)


def test_plans_that_fit_come_first_and_of_them_the_fastest():
  fast, slow = (product(FAST._replace(flops=rate)) for rate in (1e6, 1e3))
  tight = product(FAST._replace(memory=1.0))
  large = refused()
  assert rank([tight, slow, large, fast]) == [fast, slow, tight, large]


@pytest.mark.parametrize("memory", [4e5, 1e6, 3.3e7])
@pytest.mark.parametrize("start", [64, 4096])
@pytest.mark.parametrize("bend", [0, 0.3])
def test_the_largest_batch_is_found_in_few_compilations(memory, start, bend):
  needs = lambda size: 1e5 + 800 * size * (1 + bend * math.sin(size / 1000))
  real = product(FAST)
  tried = []

  def plan_for(size):
    tried.append(size)
    return real._replace(
      batch_size=size,
      chip=FAST._replace(memory=memory),
      memory=Memory(int(needs(size)), 0, 0, 0, 0),
    )

  found = largest_batch(plan_for, plan_for(start), multiple=64)
  assert found.fits and found.batch_size in tried and found.batch_size % 64 == 0
  nearly = found.batch_size + max(64, 0.02 * found.batch_size)
  assert any(not plan_for(size).fits for size in (int(nearly), int(nearly) + 64))
  assert len(tried) <= 14
  if not bend:
    assert len(tried) - 2 <= 5 and len(set(tried)) >= len(tried) - 2


def test_no_batch_fits_where_the_smallest_does_not():
  real = product(FAST)
  plan_for = lambda size: real._replace(batch_size=size, chip=FAST._replace(memory=1.0))
  assert largest_batch(plan_for, plan_for(512), multiple=64) is None


@pytest.mark.parametrize("devices", [1, 8, 12, 256])
def test_layouts_are_all_the_ways_to_write_a_number_as_a_product(devices):
  found = layouts(devices, ("data", "fsdp", "model"))
  assert len({spell(mesh) for mesh in found}) == len(found)
  assert all(math.prod(mesh.values()) == devices for mesh in found)
  divide = lambda n: [d for d in range(1, n + 1) if n % d == 0]
  assert len(found) == sum(len(divide(devices // a)) for a in divide(devices))
