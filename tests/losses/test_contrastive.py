"""NT-Xent: its definition in float64, its laws, and one value and gradient on any layout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import P, lax

from repjax.losses import nt_xent
from repjax.train.mesh import batch_sharding, make_mesh

BATCH, DIM = 16, 8
RNG = np.random.default_rng(0)
VIEWS = RNG.normal(size=(2, BATCH, DIM)).astype(np.float32)
WEIGHT = RNG.uniform(0.5, 2, BATCH).astype(np.float32)  # so that no two pairs are alike


def in_float64(views, temperature):
  """Eq. 1 of the paper, averaged over the two directions."""
  z = np.concatenate(views).astype(np.float64)
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  similarity = np.exp(z @ z.T / temperature)
  np.fill_diagonal(similarity, 0)
  partner = np.roll(np.arange(len(z)), len(z) // 2)
  loss = -np.log(similarity[np.arange(len(z)), partner] / similarity.sum(1))
  return loss.reshape(2, -1).mean(0)


def weighted(views, weight, **options):
  per_pair = nt_xent(views[0], views[1], **options)
  return jnp.sum(weight * per_pair), per_pair


value_and_grad = jax.jit(jax.value_and_grad(weighted, has_aux=True), static_argnames="axis_name")


@pytest.fixture(scope="module")
def dense():
  (_, value), grad = value_and_grad(VIEWS, WEIGHT)
  return value, grad


def close(ours, wanted, rtol=1e-5, atol=1e-6):
  for x, y in zip(ours, wanted, strict=True):
    np.testing.assert_allclose(x, y, rtol, atol)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 2.0])
def test_nt_xent_equals_its_definition(temperature):
  ours = nt_xent(*VIEWS, temperature=temperature)
  np.testing.assert_allclose(ours, in_float64(VIEWS, temperature), rtol=1e-5)


def test_gradient_of_nt_xent_equals_differences_of_its_definition(dense):
  views, step = VIEWS.astype(np.float64), 1e-5
  wanted = np.zeros_like(views)
  for index in np.ndindex(views.shape):
    offset = np.zeros_like(views)
    offset[index] = step
    up, down = in_float64(views + offset, 0.5), in_float64(views - offset, 0.5)
    wanted[index] = WEIGHT @ (up - down) / (2 * step)
  np.testing.assert_allclose(dense[1], wanted, rtol=1e-4, atol=1e-6)


def vmapped():
  """Two batches at once, of which the second is ours."""
  views = np.stack([VIEWS[:, ::-1] ** 2, VIEWS])
  (_, value), grad = jax.jit(jax.vmap(value_and_grad, (0, None)))(views, WEIGHT)
  return value[1], grad[1]


def pmapped():
  """The gradient is taken on each shard, of its own sum, as a training step does."""
  shards = VIEWS.reshape(2, 8, -1, DIM).swapaxes(0, 1)
  step = jax.pmap(functools.partial(value_and_grad, axis_name="i"), axis_name="i")
  (_, value), grad = step(shards, WEIGHT.reshape(8, -1))
  return value.reshape(-1), grad.swapaxes(0, 1).reshape(VIEWS.shape)


def shard_mapped(check_vma):
  def shard(views, weight):
    total, per_pair = weighted(views, weight, axis_name="data")
    return lax.psum(total, "data"), per_pair

  specs = {"in_specs": (P(None, "data"), P("data")), "out_specs": (P(), P("data"))}
  whole = jax.shard_map(shard, mesh=make_mesh(), check_vma=check_vma, **specs)
  (_, value), grad = jax.jit(jax.value_and_grad(whole, has_aux=True))(VIEWS, WEIGHT)
  return value, grad


def partitioned():
  """The compiler divides the whole batch over the mesh."""
  sharding = batch_sharding(make_mesh("data:-1,model:2"))
  args = (*jax.device_put(tuple(VIEWS), sharding), jax.device_put(WEIGHT, sharding))
  (_, value), grad = value_and_grad(args[:2], args[2])
  return value, np.stack(grad)


@pytest.mark.parametrize(
  "layout",
  [
    vmapped,
    pmapped,
    lambda: shard_mapped(True),
    lambda: shard_mapped(False),
    partitioned,
  ],
  ids=["vmap", "pmap", "shard_map", "shard_map_unchecked", "auto_mesh"],
)
def test_nt_xent_has_one_value_and_gradient_on_any_layout(dense, layout):
  close(layout(), dense)


def test_nt_xent_is_symmetric_in_its_views(dense):
  (_, value), grad = value_and_grad(VIEWS[::-1], WEIGHT)
  close((value, grad[::-1]), dense)


def test_nt_xent_is_invariant_to_the_lengths_of_its_inputs(dense):
  lengths = 10 ** RNG.uniform(-3, 3, (2, BATCH, 1)).astype(np.float32)
  np.testing.assert_allclose(nt_xent(*(VIEWS * lengths)), dense[0], rtol=1e-5)


def test_nt_xent_follows_a_permutation_of_the_batch(dense):
  order = RNG.permutation(BATCH)
  np.testing.assert_allclose(nt_xent(*VIEWS[:, order]), dense[0][order], rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_nt_xent_of_equal_orthogonal_views_is_the_closed_form(temperature):
  z = np.eye(BATCH, dtype=np.float32)
  # One partner at similarity 1, the 2 (n - 1) others at 0.
  wanted = np.log1p(2 * (BATCH - 1) * np.exp(-1 / temperature))
  np.testing.assert_allclose(nt_xent(z, z, temperature=temperature), wanted, rtol=1e-5, atol=2e-6)


def test_nt_xent_of_one_collapsed_point_is_the_log_of_the_choices():
  z = np.ones((BATCH, DIM), np.float32)
  np.testing.assert_allclose(nt_xent(z, z), np.log(2 * BATCH - 1), rtol=1e-6)


def test_nt_xent_of_a_single_pair_is_zero():
  # There is nobody to be confused with.
  (value, _), grad = value_and_grad(VIEWS[:, :1], 1.0)
  assert value == 0
  np.testing.assert_allclose(grad, 0, atol=1e-6)


@pytest.mark.parametrize("row", ["zero", "duplicate"])
def test_nt_xent_is_finite_at_degenerate_rows(row):
  views = VIEWS.copy()
  views[:, :3] = 0 if row == "zero" else views[0, 5]
  (_, value), grad = value_and_grad(views, WEIGHT)
  assert np.isfinite(value).all() and np.isfinite(grad).all()


def test_nt_xent_of_bfloat16_is_computed_in_float32(dense):
  low = jnp.asarray(VIEWS, jnp.bfloat16)
  (_, value), grad = value_and_grad(low, WEIGHT)
  assert value.dtype == jnp.float32 and grad.dtype == jnp.bfloat16
  # The rounding of the inputs alone, not of the sums.
  exact = nt_xent(*np.asarray(low, np.float32))
  np.testing.assert_allclose(value, exact, rtol=1e-6)
  np.testing.assert_allclose(value, dense[0], rtol=2e-2)


@pytest.mark.parametrize("shapes", [((16, 8), (16, 4)), ((16, 8), (12, 8)), ((2, 4, 8),) * 2])
def test_mismatched_views_name_both_shapes(shapes):
  message = ".*".join(str(shape).replace("(", r"\(").replace(")", r"\)") for shape in shapes)
  with pytest.raises(ValueError, match=message):
    nt_xent(*map(np.zeros, shapes))
