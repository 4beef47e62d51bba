"""Meshes: read from a flag, with axes on which any product of sharded arrays works."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from repjax.train.mesh import batch_sharding, make_mesh, replicated

X = np.arange(32, dtype=np.float32).reshape(16, 2)


@pytest.mark.parametrize(
  ("spec", "shape"),
  [
    ("data:-1", {"data": 8}),
    ("data:8", {"data": 8}),
    ("data:-1,model:2", {"data": 4, "model": 2}),
    (" model:2 , data:-1", {"model": 2, "data": 4}),
    ("data:2,fsdp:-1,model:2", {"data": 2, "fsdp": 2, "model": 2}),
    ("model:-1", {"data": 1, "model": 8}),
  ],
)
def test_specs_lay_all_devices_out(spec, shape):
  mesh = make_mesh(spec)
  assert dict(mesh.shape) == shape and list(mesh.shape) == list(shape)
  assert set(mesh.axis_types) == {AxisType.Auto}
  assert set(mesh.devices.flat) == set(jax.devices())


def test_a_mesh_can_be_of_some_devices():
  assert list(make_mesh(devices=jax.devices()[2:4]).devices) == jax.devices()[2:4]


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ("data", r"--mesh=data is not a list of name:size pairs; write data:-1,model:4"),
    ("", r"--mesh= is not a list of name:size pairs; write data:-1,model:4"),
    ("data:0", r"--mesh=data:0 is not a list"),
    ("data:-2", r"--mesh=data:-2 is not a list"),
    ("data:8,", r"--mesh=data:8, is not a list"),
    ("data:-1,model:-1", r"--mesh=data:-1,model:-1 .*more than one -1; give each axis once"),
    ("data:2,data:4", r"--mesh=data:2,data:4 repeats an axis"),
    ("data:4", r"--mesh=data:4 needs 4 devices, 8 are here; choose sizes whose product is 8"),
    ("data:8,model:2", r"--mesh=data:8,model:2 needs 16 devices, 8 are here; choose sizes"),
    ("model:4", r"--mesh=model:4 needs 4 devices, 8 are here"),
    ("data:-1,model:3", r"--mesh=data:-1,model:3 .* 8 are here"),
    ("data:-1,model:16", r"--mesh=data:-1,model:16 needs 16 devices, 8 are here"),
  ],
)
def test_specs_that_do_not_fit_say_why_in_one_line(spec, message):
  with pytest.raises(ValueError, match=message) as error:
    make_mesh(spec)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("spec", ["data:-1", "data:-1,model:2"])
def test_rows_that_lie_apart_can_be_compared(spec):
  z = jax.device_put(X, batch_sharding(make_mesh(spec)))
  np.testing.assert_allclose(jax.jit(lambda z: z @ z.T)(z), X @ X.T)


def test_batches_are_split_over_the_data_axis_alone():
  mesh = make_mesh("data:-1,model:2")
  for shard in jax.device_put(X, batch_sharding(mesh)).addressable_shards:
    (row,), _ = np.nonzero(mesh.devices == shard.device)
    np.testing.assert_array_equal(shard.data, X[4 * row : 4 * row + 4])


def test_replicas_are_whole():
  shards = jax.device_put(jnp.asarray(X), replicated(make_mesh())).addressable_shards
  assert len(shards) == 8
  for shard in shards:
    np.testing.assert_array_equal(shard.data, X)
