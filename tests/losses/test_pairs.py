"""Sums over pairs: memory that grows with the batch, and what the three ways have to agree on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import P, lax

from repjax import losses
from repjax.losses.pairs import PairSums, log_sum_exp, pair_sums
from repjax.train.mesh import batch_sharding, make_mesh

MIB = 2**20
DIM = 256
VIEWS = (DIM, DIM)  # widths of the arrays that a loss takes; None for labels
LABELLED = (DIM, None)
SOFT = lambda z_1, z_2, y_1, y_2: losses.soft_target_info_nce(z_1, z_2, y_1, y_2)
FAMILY = {
  "info_nce": (losses.info_nce, VIEWS),
  "nt_xent": (losses.nt_xent, VIEWS),
  "dcl": (losses.dcl, VIEWS),
  "dclw": (losses.dclw, VIEWS),
  "clip": (losses.clip, VIEWS),
  "siglip": (losses.siglip, VIEWS),
  "hardness_weighted_info_nce": (losses.hardness_weighted_info_nce, VIEWS),
  "sup_con": (losses.sup_con, LABELLED),
  "unicl": (losses.unicl, (DIM, DIM, None)),
  "soft_target_info_nce": (SOFT, (DIM, DIM, 10, 10)),
}


def arrays(widths, batch, **options):
  kinds = [((batch,), jnp.int32) if w is None else ((batch, w), jnp.float32) for w in widths]
  return [jax.ShapeDtypeStruct(*kind, **options) for kind in kinds]


def temporaries(function, *args):
  """MiB beside arguments and results, of value and gradient, from the compiled program."""
  floats = tuple(i for i, x in enumerate(args) if x.dtype == jnp.float32)
  program = jax.jit(jax.value_and_grad(lambda *x: jnp.mean(function(*x)), floats))
  return program.lower(*args).compile().memory_analysis().temp_size_in_bytes / MIB


# The larger of them in the thorough runs, for compiling takes as long again.
@pytest.mark.parametrize(
  ("batch", "limit"),
  [(32768, 256), pytest.param(131072, 1024, marks=pytest.mark.thorough)],
)
@pytest.mark.parametrize("name", FAMILY)
def test_memory_grows_with_the_batch_and_not_with_its_square(name, batch, limit):
  # One matrix of logits of 32,768 pairs would take 4 GiB, one of 131,072 pairs 64 GiB.
  loss, widths = FAMILY[name]
  assert temporaries(loss, *arrays(widths, batch)) < limit


@pytest.mark.parametrize("way", ["ring", "mesh"])
@pytest.mark.parametrize("name", ["nt_xent", "clip"])
def test_eight_devices_need_an_eighth_of_the_memory_each(name, way):
  loss, widths = FAMILY[name]
  mesh, batch = make_mesh(), 32768
  alone = temporaries(loss, *arrays(widths, batch))
  shard = lambda *x: lax.pmean(jnp.mean(loss(*x, axis_name="data")), "data")
  ring = jax.shard_map(shard, mesh=mesh, in_specs=P("data"), out_specs=P())
  # Tiles do not shrink with the batch, so that some is left over.
  each = temporaries(
    ring if way == "ring" else loss, *arrays(widths, batch, sharding=batch_sharding(mesh))
  )
  assert each < alone / 8 + 45


def test_a_large_batch_in_tiles_equals_one_matrix():
  z = np.random.default_rng(0).normal(size=(2, 2100, 8)).astype(np.float32)

  def run(tile_size):
    total = lambda z: jnp.mean(losses.nt_xent(*z, tile_size=tile_size))
    return jax.jit(jax.value_and_grad(total))(z)

  # By default this batch goes into tiles, of which the last is not full.
  for ours, wanted in zip(run(None), run(0), strict=True):
    np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-8)


def weighted_terms(row, column, shared):
  logits = shared["scale"] * jnp.matmul(row["x"], column["x"].T, precision="highest")
  near = jnp.where(row["id"][:, None] != column["id"][None, :], logits, -jnp.inf)
  return PairSums((near,), (jnp.tanh(logits),), (near,), (jnp.square(logits),))


def everything(rows, columns, scale, **options):
  shared = {"scale": scale}
  return pair_sums(weighted_terms, rows, columns, shared, **options)


@pytest.mark.parametrize("sizes", [(7, 12), (12, 7), (1, 5), (5, 1)])
@pytest.mark.parametrize("tile_size", [1, 4, 100])
def test_rows_and_columns_may_differ_in_number(sizes, tile_size):
  rng = np.random.default_rng(0)
  rows, columns = (
    {"x": rng.normal(size=(n, 3)).astype(np.float32), "id": np.arange(n) % 5} for n in sizes
  )
  weights = [rng.normal(size=size).astype(np.float32) for size in (*sizes[:1] * 2, *sizes[1:] * 2)]

  def total(x, y, scale, tile_size):
    sums = everything(rows | {"x": x}, columns | {"x": y}, scale, tile_size=tile_size)
    sums = [jnp.where(jnp.isfinite(s), s, 0) for s in jax.tree.leaves(sums)]
    return sum(jnp.sum(w * s) for w, s in zip(weights, sums, strict=True))

  run = jax.jit(jax.value_and_grad(total, (0, 1, 2)), static_argnums=3)
  ours, wanted = (run(rows["x"], columns["x"], 0.7, size) for size in (tile_size, 0))
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
  jax.tree.map(close, ours, wanted)


def test_a_gradient_in_tiles_has_a_gradient_of_its_own():
  z = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)

  def sharpness(z, tile_size):
    total = lambda z: jnp.sum(losses.info_nce(z, z[::-1], temperature=0.5, tile_size=tile_size))
    return jnp.sum(jnp.square(jax.grad(total)(z)))

  run = jax.jit(jax.grad(sharpness), static_argnums=1)
  np.testing.assert_allclose(run(z, 3), run(z, 0), rtol=1e-3, atol=1e-4)


def test_log_sum_exp_of_nothing_is_minus_infinity_without_a_gradient():
  x = jnp.array([[-jnp.inf, -jnp.inf], [0.0, 1.0]])
  np.testing.assert_allclose(log_sum_exp(x, 1), [-np.inf, np.log(1 + np.e)], rtol=1e-6)
  gradient = jax.grad(lambda x: jnp.sum(jnp.where(jnp.isfinite(y := log_sum_exp(x, 1)), y, 0)))(x)
  np.testing.assert_allclose(gradient[0], 0)


def test_a_negative_tile_is_an_error():
  with pytest.raises(ValueError, match="tile_size=-1 is negative"):
    losses.nt_xent(np.ones((3, 2)), np.ones((3, 2)), tile_size=-1)
