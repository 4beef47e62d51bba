"""Streaming moments: NumPy's in one go, whatever the batches, their order, shards and masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import P

from repjax.heads import moments as m

CLASSES, DIM, N = 4, 3, 96
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, DIM)) @ RNG.normal(size=(DIM, DIM)) + 2
Y = RNG.integers(0, CLASSES - 1, N).astype(np.int32)  # the last class has no row
X32 = X.astype(np.float32)
KINDS = ("shared", "each", "none")
update = jax.jit(m.update_moments)


def start(kind, dtype=jnp.float32):
  return m.init_moments(CLASSES, DIM, scatter=kind, dtype=dtype)


def in_numpy(x, y, kind):
  x = np.asarray(x, np.float64)
  rows = [x[y == c] for c in range(CLASSES)]
  scatter = [(r - r.mean(0)).T @ (r - r.mean(0)) if len(r) else np.zeros((DIM, DIM)) for r in rows]
  scatter = {"shared": sum(scatter), "each": np.stack(scatter), "none": np.zeros((0, DIM, DIM))}
  mean = np.stack([r.mean(0) if len(r) else np.zeros(DIM) for r in rows])
  return m.Moments(np.array([len(r) for r in rows]), mean, scatter[kind])


def close(ours, theirs, rtol=1e-5, atol=1e-5):
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_in_any_order_give_what_numpy_has_of_all(kind):
  for order in (np.arange(N), np.argsort(Y, kind="stable"), RNG.permutation(N)):
    state = start(kind)
    for rows in np.split(order, 4):
      state = update(state, X32[rows], Y[rows])
    close(state, in_numpy(X32, Y, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_combine_is_associative_commutative_and_neutral_at_nothing(kind):
  a, b, c = (update(start(kind), X32[rows], Y[rows]) for rows in np.split(np.arange(N), 3))
  close(
    m.combine_moments(m.combine_moments(a, b), c), m.combine_moments(a, m.combine_moments(b, c))
  )
  close(m.combine_moments(a, b), m.combine_moments(b, a))
  close(m.combine_moments(a, start(kind)), a, 0, 0)
  close(m.combine_moments(start(kind), a), a, 0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_eight_shards_give_the_batch_answer(kind):
  mesh = jax.make_mesh((8,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
  before = update(start(kind), X32[:40], Y[:40])
  whole = jax.jit(
    jax.shard_map(
      functools.partial(m.update_moments, axis_name="i"),
      mesh=mesh,
      in_specs=(P(), P("i"), P("i")),
      out_specs=P(),
    )
  )
  labels = np.where(np.arange(56) % 5 == 0, -1, Y[40:])
  close(whole(before, X32[40:], labels), update(before, X32[40:], labels))


def test_rows_left_out_are_as_if_they_had_not_been_there_whatever_they_hold():
  kept = np.arange(N) % 3 != 0
  dirty = np.where(kept[:, None], X32, np.nan).astype(np.float32)
  dropped = in_numpy(X32[kept], Y[kept], "each")
  close(update(start("each"), dirty, np.where(kept, Y, -1)), dropped)
  close(update(start("each"), dirty, Y, where=kept), dropped)


def test_features_far_from_the_origin_keep_their_digits():
  far = (X + 1e4).astype(np.float32)
  state = start("shared")
  for rows in np.split(np.arange(N), 8):
    state = update(state, far[rows], Y[rows])
  # Sums of squares in float32 would have an error of 1e8 * 1e-7 * 96 here.
  np.testing.assert_allclose(state.scatter, in_numpy(far, Y, "shared").scatter, rtol=3e-3, atol=0.1)


def test_float64_stays_float64():
  with jax.enable_x64(True):
    state = m.update_moments(start("shared", jnp.float64), X, Y)
    assert state.scatter.dtype == jnp.float64
    close(state, in_numpy(X, Y, "shared"), 1e-12, 1e-12)


@pytest.mark.parametrize("kind", ["shared", "each"])
def test_classes_forgotten_leave_the_covariance_of_all(kind):
  state = update(start(kind), X32, Y)
  total = m.total_moments(state)
  np.testing.assert_allclose(total.mean[0], X.mean(0), rtol=1e-5)
  np.testing.assert_allclose(m.covariance(state, ddof=1), np.cov(X.T), rtol=1e-4)
  np.testing.assert_allclose(m.covariance(state, ddof=0), np.cov(X.T, ddof=0), rtol=1e-4)


def test_a_label_that_names_no_class_does_not_pass_in_silence():
  assert np.isnan(update(start("none"), X32, np.where(Y == 1, CLASSES, Y)).mean).all()


def test_what_does_not_fit_is_named():
  with pytest.raises(ValueError, match="dim 3 and features of 2"):
    m.update_moments(start("none"), X32[:, :2], Y)
  with pytest.raises(ValueError, match="equal shapes"):
    m.combine_moments(start("each"), start("shared"))
  with pytest.raises(ValueError, match="keep no scatter"):
    m.covariance(start("none"), ddof=0)
