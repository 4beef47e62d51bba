"""Location encoders: harmonics by SciPy, quadrature and closed forms; Fourier features; sines."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import sph_harm_y

from repjax.encoders import (
  MLP,
  LocationEncoder,
  SirenNet,
  double_fourier_sphere,
  grid_waves,
  spherical_harmonics,
  theory_waves,
)

RNG = np.random.default_rng(0)
PLACES = np.stack([RNG.uniform(-180, 180, 40), np.degrees(np.arcsin(RNG.uniform(-1, 1, 40)))], 1)
POLES = np.array([[0, 90], [77, 90], [0, -90], [-150, -90]])
PLACES = np.concatenate([PLACES, POLES, [[180, 0], [-180, 0]]]).astype(np.float32)


@functools.partial(jax.jit, static_argnums=1)
def harmonics(location, degrees):
  return spherical_harmonics(location, degrees=degrees)


@pytest.mark.parametrize("degrees", [1, 12])
def test_harmonics_equal_those_of_scipy(degrees):
  theta, phi = np.radians(90 - PLACES[:, 1].astype(float)), np.radians(PLACES[:, 0].astype(float))
  expected = []
  for degree in range(degrees):
    for m in range(-degree, degree + 1):
      # SciPy's are complex and have the Condon-Shortley phase.
      y = (-1) ** m * sph_harm_y(degree, abs(m), theta, phi)
      expected.append(np.sqrt(2) * (y.imag if m < 0 else y.real) if m else y.real)
  np.testing.assert_allclose(harmonics(PLACES, degrees), np.stack(expected, 1), atol=2e-5)


def test_harmonics_of_low_degree_are_polynomials_of_the_place():
  longitude, latitude = np.radians(PLACES.astype(float)).T
  x, y, z = (
    np.cos(latitude) * np.cos(longitude),
    np.cos(latitude) * np.sin(longitude),
    np.sin(latitude),
  )
  one, three, fifteen = (np.sqrt(k / (4 * np.pi)) for k in (1, 3, 15))
  closed = [one + 0 * x, three * y, three * z, three * x, fifteen * x * y, fifteen * y * z,
            fifteen / np.sqrt(12) * (3 * z**2 - 1), fifteen * x * z,
            fifteen / 2 * (x**2 - y**2)]  # fmt: skip
  np.testing.assert_allclose(harmonics(PLACES, 3), np.stack(closed, 1), atol=1e-6)


def test_harmonics_are_orthonormal_under_quadrature():
  degrees = 20
  nodes, weights = np.polynomial.legendre.leggauss(degrees)
  turns = 360 * np.arange(2 * degrees) / (2 * degrees) - 180
  location = np.stack(np.meshgrid(turns, np.degrees(np.arcsin(nodes))), -1).astype(np.float32)
  weights = weights[:, None, None] * 2 * np.pi / len(turns)
  y = np.asarray(harmonics(location, degrees), float)
  gram = np.einsum("abi,abj->ij", y * weights, y)
  np.testing.assert_allclose(gram, np.eye(degrees**2), atol=2e-5)


def test_high_degrees_keep_the_addition_theorem_at_the_poles_too():
  y = np.asarray(harmonics(PLACES, 80), float)
  squares = np.add.reduceat(y**2, np.arange(80) ** 2, 1)
  expected = (2 * np.arange(80) + 1) / (4 * np.pi)
  np.testing.assert_allclose(squares / expected, np.ones_like(squares), atol=2e-4)


def test_a_pole_is_one_place_and_so_is_the_date_line():
  y = np.asarray(harmonics(PLACES, 20))
  for first, second in ((40, 41), (42, 43), (44, 45)):
    np.testing.assert_allclose(y[first], y[second], atol=2e-5)
  waves = double_fourier_sphere(jnp.asarray(PLACES), count=4)
  assert np.abs(waves[40] - waves[41]).max() > 0.1  # which Fourier features do not know


def test_harmonics_have_finite_gradients_at_the_poles():
  features = functools.partial(spherical_harmonics, degrees=6)
  gradient = jax.jit(jax.jacrev(features))(jnp.asarray(POLES[0], jnp.float32))
  assert np.isfinite(gradient).all()
  assert np.abs(gradient[:, 1]).max() > 1e-3


def test_fourier_features_equal_their_definitions():
  longitude, latitude = PLACES.astype(float).T
  scales = 2 * 8 ** (np.arange(3) / 2)
  wave = lambda x: np.concatenate([f(x[:, None] / scales[None]) for f in (np.sin, np.cos)], 1)
  options = {"count": 3, "smallest": 2.0, "largest": 16.0}
  expected = np.concatenate([wave(longitude), wave(latitude)], 1)
  x = jnp.asarray(PLACES)
  np.testing.assert_allclose(grid_waves(x, **options), expected, atol=2e-5)
  products = np.einsum("ni,nj->nij", wave(longitude), wave(latitude)).reshape(len(x), -1)
  expected = np.concatenate([expected, products], 1)
  np.testing.assert_allclose(double_fourier_sphere(x, **options), expected, atol=2e-5)
  root = np.sqrt(3) / 2
  along = [longitude, -longitude / 2 + root * latitude, -longitude / 2 - root * latitude]
  expected = np.concatenate([wave(a) for a in along], 1)
  np.testing.assert_allclose(theory_waves(x, **options), expected, atol=4e-5)


def test_sines_equal_their_definition_and_start_at_the_stated_bounds():
  x = RNG.normal(size=(50, 20)).astype(np.float32)
  net = SirenNet((64, 64, 5), 7.0, 2.0)
  variables = jax.jit(net.init)(jax.random.key(0), x)
  p = jax.tree.map(np.asarray, variables["params"])
  y = x.astype(float)
  for i, (frequency, bound) in enumerate(
    [(7, 1 / 20), (2, np.sqrt(6 / 64) / 2), (0, np.sqrt(6 / 64) / 2)]
  ):
    layer = p[f"dense_{i}"]
    assert 0.8 * bound < max(np.abs(leaf).max() for leaf in layer.values()) <= bound
    y = y @ layer["kernel"] + layer["bias"]
    y = np.sin(frequency * y) if frequency else y
  np.testing.assert_allclose(net.apply(variables, x), y, atol=2e-5)


@pytest.mark.thorough
def test_bfloat16_is_close_to_float32_with_finite_gradients():
  encoding = functools.partial(spherical_harmonics, degrees=6)
  high, low = (
    LocationEncoder(encoding, SirenNet((32, 32, 8), dtype=dtype))
    for dtype in (jnp.float32, jnp.bfloat16)
  )
  variables = high.init(jax.random.key(0), PLACES)

  def loss(variables):
    pooled = low.apply(variables, PLACES).pooled
    return jnp.sum(pooled.astype(jnp.float32)), pooled

  (_, pooled), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables)
  expected = high.apply(variables, PLACES).pooled
  assert pooled.dtype == jnp.bfloat16
  assert np.linalg.norm(pooled - expected) < 0.1 * np.linalg.norm(expected)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


def test_places_without_two_coordinates_are_refused():
  module = LocationEncoder(functools.partial(grid_waves, count=2), MLP((4,)))
  with pytest.raises(ValueError, match=r"\[batch, 2\].*degrees, got \(46, 3\)"):
    module.init(jax.random.key(0), np.zeros((46, 3)))
