"""HSIC and CKA: NumPy in float64, known values, and the two bugs that public code has had."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.measure import (
  centre_gram,
  hsic,
  linear_gram,
  minibatch_cka,
  rbf_gram,
  similarity_matrix,
)
from repjax.measure import cka as eager_cka
from repjax.measure import linear_cka as eager_linear_cka

cka = jax.jit(eager_cka, static_argnames="unbiased")
linear_cka = jax.jit(eager_linear_cka, static_argnames="unbiased")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 7)) + 3
Y = np.tanh(X @ RNG.normal(size=(7, 5))) + 0.5 * RNG.normal(size=(40, 5)) - 2
TURN = np.linalg.qr(RNG.normal(size=(7, 7)))[0]
KINDS = pytest.mark.parametrize("unbiased", [False, True])


def hsic_in_float64(a, b, unbiased):
  """Gretton's and Song's formulas as they are printed."""
  n, one = len(a), np.ones(len(a))
  if not unbiased:
    h = np.eye(n) - 1 / n
    return np.trace(a @ h @ b @ h) / (n - 1) ** 2
  a, b = a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
  means = one @ a @ one * (one @ b @ one) / (n - 1) / (n - 2)
  return (np.trace(a @ b) + means - 2 / (n - 2) * (one @ a @ b @ one)) / n / (n - 3)


def cka_in_float64(a, b, unbiased):
  of = lambda a, b: hsic_in_float64(a, b, unbiased)
  return of(a, b) / np.sqrt(of(a, a) * of(b, b))


def single(*arrays):
  return [jnp.asarray(x, jnp.float32) for x in arrays]


@KINDS
def test_hsic_equals_its_printed_formula(unbiased):
  a, b = X @ X.T, np.exp(-((Y[:, None] - Y[None]) ** 2).sum(-1))
  value = jax.jit(functools.partial(hsic, unbiased=unbiased))(*single(a, b))
  np.testing.assert_allclose(value, hsic_in_float64(a, b, unbiased), rtol=2e-4)
  with jax.enable_x64(True):
    value = jax.jit(functools.partial(hsic, unbiased=unbiased))(a, b)
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, hsic_in_float64(a, b, unbiased), rtol=1e-10)


@KINDS
def test_linear_cka_equals_cka_of_gram_matrices_whichever_is_smaller(unbiased):
  wide = np.concatenate([X, X**2, np.sin(X)] * 4, 1)
  for x, y in ((X, Y), (wide, wide[:, ::-1] ** 3)):
    truth = cka_in_float64(x @ x.T, y @ y.T, unbiased)
    value = linear_cka(*single(x, y), unbiased=unbiased)
    np.testing.assert_allclose(value, truth, rtol=1e-4)
    grams = single(x @ x.T, y @ y.T)
    np.testing.assert_allclose(cka(*grams, unbiased=unbiased), truth, rtol=1e-3)


def test_rbf_gram_has_the_width_of_scipy_s_median_distance_at_any_scale():
  from scipy.spatial.distance import pdist, squareform

  distance, of = pdist(X), jax.jit(rbf_gram)
  truth = np.exp(-(squareform(distance / (0.5 * np.median(distance))) ** 2) / 2)
  value = of(single(X)[0], bandwidth=0.5)
  np.testing.assert_allclose(value, truth, rtol=1e-4, atol=1e-6)
  scaled = of(1e3 * single(X)[0], bandwidth=0.5)
  np.testing.assert_allclose(scaled, value, rtol=1e-3, atol=1e-6)
  np.testing.assert_array_equal(of(jnp.ones((40, 7)), bandwidth=0.5), np.ones((40, 40)))


def test_a_linear_gram_is_the_centred_one_of_inner_products():
  centring = np.eye(40) - 1 / 40
  truth = centring @ X @ X.T @ centring
  np.testing.assert_allclose(jax.jit(linear_gram)(*single(X)), truth, rtol=1e-3, atol=1e-4)


def test_u_centring_zeroes_the_diagonal_and_not_a_row():
  # A public implementation wrote K - diag(K), which takes a row off every row.
  centred = centre_gram(single(X @ X.T)[0], unbiased=True)
  np.testing.assert_array_equal(np.diag(centred), np.zeros(40))
  np.testing.assert_allclose(jnp.sum(centred, 1), np.zeros(40), atol=1e-3)


def test_independent_features_have_no_unbiased_cka_and_much_biased_cka():
  draws = np.random.default_rng(1).normal(size=(400, 2, 32, 16)).astype(np.float32)
  of = lambda unbiased: jax.vmap(lambda z: linear_cka(z[0], z[1], unbiased=unbiased))
  unbiased, biased = (np.asarray(jax.jit(of(kind))(draws)) for kind in (True, False))
  error = unbiased.std() / 20
  assert np.isfinite(unbiased).all() and abs(unbiased.mean()) < 4 * error < 0.02
  assert (unbiased < 0).any()  # never clipped
  np.testing.assert_allclose(biased.mean(), 0.338, atol=0.005)


def test_bias_falls_as_one_over_n_as_the_docstring_says():
  draws = np.random.default_rng(3).normal(size=(40, 2, 256, 16)).astype(np.float32)
  of = jax.jit(jax.vmap(lambda z: eager_linear_cka(z[0], z[1], unbiased=False)))
  found = [np.mean(of(draws[:, :, :size])) for size in (32, 64, 128, 256)]
  np.testing.assert_allclose(found, [0.34, 0.20, 0.11, 0.06], atol=0.012)


@KINDS
def test_linear_cka_sees_no_turn_scale_or_shift_and_is_symmetric(unbiased):
  of = functools.partial(linear_cka, unbiased=unbiased)
  value = of(*single(X, Y))
  np.testing.assert_allclose(of(*single(X @ TURN * 30 + 7, Y)), value, rtol=1e-4)
  np.testing.assert_allclose(of(*single(Y, X)), value, rtol=1e-5)
  np.testing.assert_allclose(of(*single(X, X @ TURN)), 1, rtol=1e-5)
  assert abs(of(*single(X, X * np.geomspace(1, 100, 7))) - 1) > 0.1  # but an affine map
  order = np.random.default_rng(2).permutation(40)
  np.testing.assert_allclose(of(*single(X[order], Y[order])), value, rtol=1e-4)


def test_a_large_mean_costs_no_digits():
  value = linear_cka(*single(X + 1000, Y), unbiased=True)
  np.testing.assert_allclose(value, cka_in_float64(X @ X.T, Y @ Y.T, True), rtol=1e-3)


def test_minibatch_cka_is_the_ratio_of_mean_hsics_in_any_order_and_split():
  first, second = [X, X[:, :3].reshape(40, 3, 1) ** 2], [Y, np.sin(X), X @ TURN]
  rows = np.arange(40).reshape(5, 8)
  add = jax.jit(minibatch_cka.update)
  part = lambda layers, r: single(*[x[r] for x in layers])
  sums = [add(minibatch_cka.init(2, 3), part(first, r), part(second, r)) for r in rows]
  whole = functools.reduce(minibatch_cka.combine, sums)
  running = minibatch_cka.init(2, 3)
  for r in rows[::-1]:
    running = add(running, part(first, r), part(second, r))
  matrix = minibatch_cka.finalize(whole)
  np.testing.assert_allclose(minibatch_cka.finalize(running), matrix, rtol=1e-4)

  gram = lambda x: x.reshape(len(x), -1) @ x.reshape(len(x), -1).T
  mean = lambda x, y: np.mean([hsic_in_float64(gram(x[r]), gram(y[r]), True) for r in rows])
  truth = [[mean(x, y) / np.sqrt(mean(x, x) * mean(y, y)) for y in second] for x in first]
  np.testing.assert_allclose(matrix, truth, rtol=1e-3)
  np.testing.assert_allclose(matrix[0, 2], 1, rtol=1e-5)


def test_one_minibatch_of_everything_is_unbiased_cka():
  sums = minibatch_cka.update(minibatch_cka.init(1, 1), single(X), single(Y))
  truth = cka_in_float64(X @ X.T, Y @ Y.T, True)
  np.testing.assert_allclose(minibatch_cka.finalize(sums), [[truth]], rtol=1e-4)


def test_minibatch_sums_over_devices_are_those_of_one():
  from jax.sharding import PartitionSpec as P

  mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  x, y = single(X, Y)

  def part(x, y):
    return jax.lax.psum(minibatch_cka.update(minibatch_cka.init(1, 1), [x], [y]), "data")

  split = jax.shard_map(part, mesh=mesh, in_specs=(P("data"), P("data")), out_specs=P())
  parts = [
    minibatch_cka.update(minibatch_cka.init(1, 1), [x[i : i + 10]], [y[i : i + 10]])
    for i in range(0, 40, 10)
  ]
  dense = functools.reduce(minibatch_cka.combine, parts)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), jax.jit(split)(x, y), dense
  )


def test_similarity_matrix_has_the_measure_of_every_pair():
  layers = [X, X.reshape(40, 7, 1) ** 2], [Y, X]
  of = functools.partial(linear_cka, unbiased=True)
  matrix = similarity_matrix(*[[np.float32(x) for x in part] for part in layers], of)
  for i, j in np.ndindex(2, 2):
    x, y = single(layers[0][i].reshape(40, -1), layers[1][j])
    np.testing.assert_allclose(matrix[i, j], of(x, y), rtol=1e-6)


def test_what_does_not_fit_is_said_in_a_line():
  x, y = single(X, Y)
  with pytest.raises(ValueError, match=r"same n examples, got \(40, 7\) and \(39, 5\)"):
    linear_cka(x, y[:39], unbiased=True)
  with pytest.raises(ValueError, match="needs 4 examples or more, got 3"):
    linear_cka(x[:3], y[:3], unbiased=True)
  with pytest.raises(ValueError, match="needs 4 examples or more, got 3"):
    hsic(jnp.eye(3), jnp.eye(3), unbiased=True)
  with pytest.raises(ValueError, match=r"Gram matrix \[n, n\], got \(40, 7\)"):
    centre_gram(x)
  with pytest.raises(ValueError, match=r"expected \(1, 1\) layers"):
    minibatch_cka.update(minibatch_cka.init(1, 1), [x, x], [y])
  np.testing.assert_array_equal(linear_cka(jnp.ones((8, 2)), y[:8], unbiased=False), 0)
