"""Diffusion spectral entropy: NumPy in float64, limits, and what the published code computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.measure import diffusion_eigenvalues, diffusion_entropy, diffusion_information

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 5)) + 4 * (np.arange(40) % 3)[:, None]
Z = jnp.asarray(X, jnp.float32)
STATIC = ("anisotropy", "trivial", "base")
entropy = jax.jit(diffusion_entropy, static_argnames=STATIC)
information = jax.jit(diffusion_information, static_argnames=(*STATIC, "classes", "size"))


def walk_in_float64(x, sigma, anisotropy):
  distance = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
  kernel = np.exp(-(distance**2) / (2 * sigma**2))
  density = kernel.sum(1) ** anisotropy
  kernel = kernel / density[:, None] / density[None]
  return kernel / kernel.sum(1, keepdims=True)


def entropy_in_float64(values, t, base=np.e):
  shares = np.abs(values) ** t
  shares = shares / shares.sum() + np.finfo(float).tiny
  return -np.sum(shares * np.log(shares)) / np.log(base)


@pytest.mark.parametrize("anisotropy", [0.0, 0.5, 1.0])
def test_eigenvalues_are_those_of_the_walk(anisotropy):
  walk = walk_in_float64(X, 2.0, anisotropy)
  wanted = np.sort(np.linalg.eigvals(walk).real)
  found = diffusion_eigenvalues(Z, sigma=2.0, anisotropy=anisotropy)
  np.testing.assert_allclose(found, wanted, atol=2e-6)
  np.testing.assert_allclose(found[-1], 1, atol=1e-6)


def test_entropy_equals_its_definition_in_float64():
  values = np.linalg.eigvals(walk_in_float64(X, 2.0, 0.5)).real
  for t in (1.0, 3.0):
    np.testing.assert_allclose(
      entropy(Z, sigma=2.0, t=t), entropy_in_float64(values, t), rtol=1e-4, atol=1e-5
    )


def test_entropy_in_the_published_codes_convention():
  # Its symmetric matrix is divided once, so that its eigenvalues are those of a plain walk; it
  # drops the largest and counts bits.
  kernel = np.exp(-((X[:, None] - X[None]) ** 2).sum(-1) / (2 * 2.0**2)) / (
    2.0 * np.sqrt(2 * np.pi)
  )
  root = np.diag(kernel.sum(1) ** -0.5)
  values = np.linalg.eigvalsh(root @ kernel @ root)[:-1]
  found = entropy(Z, sigma=2.0, t=2, anisotropy=0.0, trivial=False, base=2)
  np.testing.assert_allclose(found, entropy_in_float64(values, 2, 2), rtol=1e-4)
  ours = entropy(Z, sigma=2.0, t=2, trivial=False, base=2)
  assert abs(ours - found) > 1e-3  # the paper's kernel is another


def test_entropy_of_one_point_of_clusters_and_of_strangers():
  np.testing.assert_allclose(entropy(jnp.ones((40, 5))), 0, atol=1e-4)
  clusters = 100 * np.eye(5)[np.arange(40) % 4] + RNG.normal(size=(40, 5))
  clusters = jnp.asarray(clusters, jnp.float32)
  np.testing.assert_allclose(entropy(clusters, t=20.0), np.log(4), rtol=1e-4)
  np.testing.assert_allclose(entropy(clusters, sigma=0.05), np.log(40), rtol=1e-4)
  np.testing.assert_allclose(entropy(clusters, sigma=0.05, base=2), np.log2(40), 1e-4)


def test_entropy_ignores_turn_offset_and_order_and_scales_with_the_kernel():
  turn, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
  wanted = entropy(Z, sigma=2.0)
  other = jnp.asarray(3 * X[::-1] @ turn + 10, jnp.float32)
  np.testing.assert_allclose(entropy(other, sigma=6.0), wanted, rtol=1e-3)


def test_rows_that_take_no_part_are_as_if_they_were_not_there():
  where = np.arange(40) % 4 > 0
  found = entropy(Z, sigma=2.0, where=jnp.asarray(where))
  np.testing.assert_allclose(found, entropy(Z[where], sigma=2.0), rtol=1e-4)
  found = entropy(Z, sigma=2.0, where=jnp.asarray(where), trivial=False)
  np.testing.assert_allclose(found, entropy(Z[where], sigma=2.0, trivial=False), rtol=1e-3)


def test_information_of_clusters_is_their_entropy_and_of_shuffled_labels_near_0():
  labels = np.repeat(np.arange(4), 20).astype(np.int32)
  points = jnp.asarray(1e3 * np.eye(4)[labels], jnp.float32)
  measure = lambda y: information(points, y, key=jax.random.key(0), classes=5)
  # Of 20 draws nearly all four clusters come up about alike; each class alone has none.
  assert 0.9 * np.log(4) < measure(jnp.asarray(labels)) <= np.log(4) + 1e-3
  assert abs(measure(jnp.asarray(RNG.permutation(labels)))) < 0.1


def test_information_is_the_gain_over_as_many_drawn_from_all():
  # One class that holds all is drawn whole, in another order; unlabelled rows are never drawn.
  labels = np.zeros(40, np.int32)
  found = information(Z, labels, key=jax.random.key(1), classes=1, sigma=2.0)
  np.testing.assert_allclose(found, 0, atol=1e-4)
  far = Z.at[:10].add(1e3)
  hidden = np.where(np.arange(40) < 10, -1, 0)
  found = information(far, hidden, key=jax.random.key(1), classes=1, sigma=2.0)
  np.testing.assert_allclose(found, 0, atol=1e-4)


def test_shapes_that_do_not_fit_are_named():
  with pytest.raises(ValueError, match=r"\[batch, dim\]"):
    diffusion_entropy(jnp.ones(3))
  with pytest.raises(ValueError, match=r"where \[n\], got \(3,\) for features \(40, 5\)"):
    diffusion_entropy(Z, where=jnp.ones(3, bool))
  with pytest.raises(ValueError, match="integer labels"):
    diffusion_information(Z, jnp.ones(40), key=jax.random.key(0), classes=1)
