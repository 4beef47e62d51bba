"""Feeding: rows keep their order on any mesh, and a table gives what the batch itself would."""

import jax
import numpy as np
import pytest

from repjax.train.feed import Feed, check_divisible, first_batch, place_batch, place_table, take
from repjax.train.mesh import batch_sharding, make_mesh, replicated

RNG = np.random.default_rng(0)
TABLE = {
  "image": RNG.integers(0, 256, (40, 2, 2, 3), np.uint8),
  "label": RNG.integers(-1, 5, 40).astype(np.int32),
}
ROWS = RNG.permutation(40)[:16].astype(np.int32)
BATCH = {name: x[ROWS] for name, x in TABLE.items()}
meshes = pytest.mark.parametrize("spec", ["data:-1", "data:-1,model:2", "data:1,model:8"])


def equal(ours, wanted):
  jax.tree.map(np.testing.assert_array_equal, ours, wanted)


@meshes
def test_placed_batches_keep_their_rows(spec):
  mesh = make_mesh(spec)
  placed = place_batch(BATCH, mesh)
  equal(placed, BATCH)
  assert all(x.sharding == batch_sharding(mesh) for x in jax.tree.leaves(placed))


@meshes
def test_rows_of_a_table_are_the_batch(spec):
  mesh = make_mesh(spec)
  table = place_table(TABLE, mesh)
  assert all(x.sharding == replicated(mesh) for x in jax.tree.leaves(table))
  equal(jax.jit(take)(table, place_batch(ROWS, mesh)), BATCH)


def test_without_a_table_the_batch_is_itself():
  assert take(None, BATCH) is BATCH
  assert place_table(None, make_mesh()) is None


@pytest.mark.parametrize("table", [None, TABLE])
def test_the_first_batch_is_that_of_step_zero(table):
  rows = lambda step: np.roll(ROWS, -step)
  part = lambda step: rows(step) if table else {name: x[rows(step)] for name, x in TABLE.items()}
  feed = Feed(lambda step: map(part, range(step, 9)), 16, table)
  equal(first_batch(feed), BATCH)


@pytest.mark.parametrize(
  ("spec", "size", "way_out"),
  [("data:-1", 20, "use 16 or 24"), ("data:-1", 3, "use 8"), ("data:-1,model:2", 6, "use 4 or 8")],
)
def test_batches_that_do_not_divide_name_both_and_the_way_out(spec, size, way_out):
  mesh = make_mesh(spec)
  shards = mesh.shape["data"]
  message = f"--batch_size={size} is not divisible by the {shards} shards of --mesh; {way_out}$"
  with pytest.raises(ValueError, match=message):
    check_divisible(size, mesh)


def test_batches_that_divide_pass():
  check_divisible(24, make_mesh())
  check_divisible(7, make_mesh("data:1,model:8"))
