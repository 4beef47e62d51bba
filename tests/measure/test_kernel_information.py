"""Divergence and information of Gram matrices: densities, loops and eigenvalues in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import fractional_matrix_power
from scipy.spatial.distance import cdist
from scipy.stats import norm

from repjax import measure

RNG = np.random.default_rng(0)
N = 12
X, Y_1 = RNG.normal(size=(2, N, 2))
Y_2 = Y_1 + 0.4 * RNG.normal(size=(N, 2))


def gram(x, y, width=0.8):
  return np.exp(-cdist(x, y, "sqeuclidean") / (2 * width**2))


K, L_1, L_2, L_12 = gram(X, X), gram(Y_1, Y_1), gram(Y_2, Y_2), gram(Y_1, Y_2)


def both(f, *arrays, wanted, rtol=1e-4):
  """Holds one compiled call to a number, in float32 and in float64."""
  f = jax.jit(f)
  single = [np.asarray(x, np.float32) for x in arrays]
  np.testing.assert_allclose(f(*single), wanted, rtol=rtol, atol=1e-6)
  with jax.enable_x64(True):
    np.testing.assert_allclose(f(*arrays), wanted, rtol=1e-9)


def test_the_gaussian_kernel_is_that_of_distances():
  far = 50.0  # squares lose digits far from 0
  both(lambda x, y: measure.gaussian_gram(x + far, y + far, width=0.8), X, Y_1, wanted=gram(X, Y_1))


def test_the_divergence_is_that_of_kernel_densities_of_the_smaller_width():
  a, b, width = X[:6, :1], Y_1[:4, :1] + 1, 0.8
  density = lambda sample: lambda t: norm.pdf(t, sample[:, 0], width / np.sqrt(2)).mean()
  p, q = density(a), density(b)
  integral = lambda f: quad(f, -9, 9, limit=200, epsabs=1e-12)[0]
  wanted = np.log(integral(lambda t: p(t) ** 2)) + np.log(integral(lambda t: q(t) ** 2))
  wanted -= 2 * np.log(integral(lambda t: p(t) * q(t)))
  both(measure.cauchy_schwarz_divergence, gram(a, a), gram(b, b), gram(a, b), wanted=wanted)


def test_the_conditional_divergence_is_its_loops_and_nothing_for_equal_answers():
  def term(answers):
    total = 0.0
    for j in range(N):
      total += sum(K[j, i] * answers[j, i] for i in range(N)) / sum(K[j]) ** 2
    return np.log(total)

  wanted = term(L_1) + term(L_2) - 2 * term(L_12)
  f = measure.conditional_cauchy_schwarz_divergence
  both(f, K, L_1, L_2, L_12, wanted=wanted)
  both(f, K, L_1, L_1, L_1, wanted=0.0)
  # Where all questions are alike, it is the divergence without them.
  flat = np.ones((N, N))
  plain = np.log(L_1.mean()) + np.log(L_2.mean()) - 2 * np.log(L_12.mean())
  both(f, flat, L_1, L_2, L_12, wanted=plain)


def information(k, l):  # noqa: E741
  ones = np.ones(N)
  joint, margins = np.trace(k @ l) / N**2, k.sum() * l.sum() / N**4
  return np.log(joint) + np.log(margins) - 2 * np.log(ones @ k @ l @ ones / N**3)


def test_information_is_its_traces_and_nothing_of_a_constant():
  wanted = information(K, L_1)
  both(measure.cauchy_schwarz_information, K, L_1, wanted=wanted)
  flat = jnp.ones((N, N))
  value = measure.cauchy_schwarz_information(jnp.asarray(K, jnp.float32), flat)
  np.testing.assert_allclose(value, 0, atol=1e-6)
  share = wanted / np.sqrt(information(K, K) * information(L_1, L_1))
  f = lambda k, l: measure.cauchy_schwarz_information(k, l, normalized=True)  # noqa: E741
  both(f, K, L_1, wanted=share)
  both(f, K, K, wanted=1.0)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.01, 2.0])
def test_matrix_entropy_and_information_are_those_of_eigenvalues(alpha):
  def entropy(a):
    if alpha == 1:
      values = np.linalg.eigvalsh(a)
      return -np.sum(values * np.log(values))
    return np.log(np.trace(fractional_matrix_power(a, alpha)).real) / (1 - alpha)

  # A diagonal that is not 1 is divided out.
  scale = np.linspace(0.5, 2, N)
  scaled = K * np.outer(scale, scale)
  entropies = entropy(K / N), entropy(L_1 / N), entropy(K * L_1 / N)
  # Near order 1 the difference is divided by 0.01.
  rtol = 5e-3 if alpha == 1.01 else 1e-4
  both(lambda k: measure.matrix_entropy(k, alpha=alpha), scaled, wanted=entropies[0], rtol=rtol)
  wanted = entropies[0] + entropies[1] - entropies[2]
  f = lambda k, l: measure.matrix_information(k, l, alpha=alpha)  # noqa: E741
  both(f, scaled, L_1, wanted=wanted, rtol=rtol)


def test_entropy_lies_between_equal_points_and_points_apart():
  f = jax.jit(lambda k: measure.matrix_entropy(k, alpha=2.0))
  np.testing.assert_allclose(f(jnp.ones((N, N))), 0, atol=1e-5)
  np.testing.assert_allclose(f(jnp.eye(N)), np.log(N), rtol=1e-5)


def test_order_of_points_and_turns_of_space_change_nothing():
  order, (turn, _) = RNG.permutation(N), np.linalg.qr(RNG.normal(size=(2, 2)))

  def values(x, y):
    k, l = (measure.gaussian_gram(z, z, width=0.8) for z in (x, y))  # noqa: E741
    return jnp.stack(
      [measure.cauchy_schwarz_information(k, l), measure.matrix_information(k, l, alpha=2.0)]
    )

  f = jax.jit(values)
  wanted = f(X.astype(np.float32), Y_1.astype(np.float32))
  moved = f((X[order] @ turn).astype(np.float32), Y_1[order].astype(np.float32))
  np.testing.assert_allclose(moved, wanted, rtol=1e-4)


def test_errors_name_shapes_and_numbers():
  with pytest.raises(ValueError, match=r"\(3, 2\) and \(3, 1\)"):
    measure.gaussian_gram(jnp.ones((3, 2)), jnp.ones((3, 1)), width=1.0)
  with pytest.raises(ValueError, match=r"gram_12 \[n, m\], got \[\(3, 3\), \(2, 2\), \(2, 3\)\]"):
    measure.cauchy_schwarz_divergence(jnp.ones((3, 3)), jnp.ones((2, 2)), jnp.ones((2, 3)))
  with pytest.raises(ValueError, match=r"Gram matrix \[n, n\], got \(3, 2\)"):
    measure.matrix_entropy(jnp.ones((3, 2)))
  with pytest.raises(ValueError, match="alpha=0 is no order"):
    measure.matrix_entropy(jnp.eye(3), alpha=0)
