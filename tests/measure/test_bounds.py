"""Bounds on mutual information: sums written out in float64, their ceilings and their relations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_expit, logsumexp

from repjax import losses, measure

RNG = np.random.default_rng(0)
N = 12
SCORES = RNG.normal(size=(N, N)) * 3 + 4 * np.eye(N)
BASELINE = RNG.normal(size=N)
PAIRS = [(i, j) for i in range(N) for j in range(N) if i != j]


def written_out():
  """Each bound pair by pair."""
  f, a = SCORES, np.exp(BASELINE)
  own = np.mean([f[i, i] for i in range(N)])
  others = np.array([f[i, j] for i, j in PAIRS])
  nce = np.mean([f[i, i] - logsumexp(f[i]) + np.log(N) for i in range(N)])
  dv = own - np.log(np.mean(np.exp(others)))
  tuba = 1 + np.mean(np.diag(f) - BASELINE) - np.mean([np.exp(f[i, j]) / a[j] for i, j in PAIRS])
  js = log_expit(np.diag(f)).mean() / 2 + log_expit(-others).mean() / 2 + np.log(2)
  clipped = np.clip(np.exp(others), np.exp(-2), np.exp(2))
  return {
    "info_nce_bound": (nce, ()),
    "donsker_varadhan_bound": (dv, ()),
    "nwj_bound": (own - np.mean(np.exp(others - 1)), ()),
    "tuba_bound": (tuba, (BASELINE,)),
    "jensen_shannon_divergence": (js, ()),
    "jensen_shannon_bound": (own + 1 - np.mean(np.exp(others)), ()),
    "smile_bound": (own - np.log(np.mean(clipped)), (), {"clip": 2.0}),
    "interpolated_bound": (interpolated(0.3), (BASELINE,), {"alpha": 0.3}),
    "club_bound": (own - others.mean(), ()),
    "wasserstein_bound": (own - others.mean(), ()),
  }


def interpolated(alpha):
  f, a = SCORES, np.exp(BASELINE)
  b = lambda k, j: (
    alpha * np.mean([np.exp(f[i, j]) for i in range(N) if i != k]) + (1 - alpha) * a[j]
  )
  joint = np.mean([f[j, j] - np.log(b(k, j)) for k, j in PAIRS])
  return 1 + joint - np.mean([np.exp(f[i, j]) / b(j, j) for i, j in PAIRS])


@pytest.mark.parametrize("name", written_out())
def test_bound_equals_its_sums_in_both_precisions(name):
  wanted, arrays, *options = written_out()[name]
  bound = jax.jit(lambda *arrays: getattr(measure, name)(*arrays, **dict(*options)))
  single = [jnp.asarray(x, jnp.float32) for x in (SCORES, *arrays)]
  np.testing.assert_allclose(bound(*single), wanted, rtol=2e-5)
  with jax.enable_x64(True):
    np.testing.assert_allclose(bound(*map(jnp.asarray, (SCORES, *arrays))), wanted, rtol=1e-11)


def at(f, *arrays):
  """One compiled call in float32."""
  return jax.tree.map(np.asarray, jax.jit(f)(*(np.asarray(x, np.float32) for x in arrays)))


def test_info_nce_stops_at_the_logarithm_of_the_number_of_pairs():
  # Far beyond float32's exponential, where a bound must stay finite too.
  def values(x):
    return (
      measure.info_nce_bound(x),
      measure.interpolated_bound(x, 0.0, alpha=0.5),
      measure.donsker_varadhan_bound(x),
      measure.wasserstein_bound(x),
    )

  for n in (64, 256):
    wanted = np.log(n), np.log((n - 1) / 0.5), 1e4, 1e4
    np.testing.assert_allclose(at(values, 1e4 * np.eye(n)), wanted, rtol=1e-3)


def test_scores_that_tell_nothing_give_nothing():
  def values(x):
    return (
      measure.info_nce_bound(x),
      measure.donsker_varadhan_bound(x),
      measure.nwj_bound(x + 0.3),
      measure.tuba_bound(x, 0.7),
      measure.jensen_shannon_divergence(0 * x),
      measure.jensen_shannon_bound(0 * x),
      measure.smile_bound(x),
      measure.interpolated_bound(x, 0.7, alpha=0.4),
      measure.club_bound(x),
    )

  np.testing.assert_allclose(at(values, np.full((8, 8), 0.7)), np.zeros(9), atol=1e-6)


def test_what_may_be_added_to_scores_and_how_pairs_may_be_ordered():
  def values(x, base):
    return (
      measure.info_nce_bound(x + jnp.arange(N)[:, None]),
      measure.donsker_varadhan_bound(x + 5),
      measure.tuba_bound(x + 5, base + 5),
    )

  def plain(x, base):
    return (
      measure.info_nce_bound(x),
      measure.donsker_varadhan_bound(x),
      measure.tuba_bound(x, base),
      measure.interpolated_bound(x, base, alpha=0.3),
    )

  wanted = at(plain, SCORES, BASELINE)
  np.testing.assert_allclose(at(values, SCORES, BASELINE), wanted[:3], rtol=1e-4)
  order = RNG.permutation(N)
  turned = at(plain, SCORES[order][:, order], BASELINE[order])
  np.testing.assert_allclose(turned, wanted, rtol=1e-4)


def test_bounds_lie_in_their_order():
  def values(x):
    dv = measure.donsker_varadhan_bound(x)
    # The tightest constant baseline is the mean itself.
    tight = measure.tuba_bound(x, jnp.mean(jnp.diagonal(x)) - dv)
    loose = measure.smile_bound(x, clip=1e3)
    return dv, tight, loose, measure.nwj_bound(x), measure.jensen_shannon_divergence(x)

  for scale in (0.1, 1.0, 3.0):
    dv, tight, loose, nwj, js = at(values, SCORES * scale)
    np.testing.assert_allclose((tight, loose), (dv, dv), rtol=1e-4, atol=1e-5)
    assert nwj <= dv + 1e-5
    assert js < np.log(2)


def test_the_interpolation_ends_at_tuba_and_at_info_nce_without_one():
  def values(x, base):
    ends = [measure.interpolated_bound(x, base, alpha=alpha) for alpha in (0.0, 1.0)]
    return *ends, measure.tuba_bound(x, base)

  start, end, tuba = at(values, SCORES, BASELINE)
  np.testing.assert_allclose(start, tuba, rtol=1e-5)
  without = lambda k, j: logsumexp(np.delete(SCORES[:, j], k)) - np.log(N - 1)
  nce = np.mean([SCORES[j, j] - without(k, j) for k, j in PAIRS])
  np.testing.assert_allclose(end, nce, rtol=1e-5)


def test_losses_are_bounds_with_the_sign_turned():
  x, y = RNG.normal(size=(2, N, 3))
  critic = lambda x, y: jnp.sin(x @ y) + x[0]

  def values(x, y):
    scores = jax.vmap(lambda a: jax.vmap(lambda b: critic(a, b))(y))(x)
    unit = [z / jnp.linalg.norm(z, axis=1, keepdims=True) for z in (x, y)]
    return (
      measure.wasserstein_bound(scores) + jnp.mean(losses.wasserstein_dependency(critic, x, y)),
      measure.info_nce_bound(unit[0] @ unit[1].T / 0.5)
      + jnp.mean(losses.info_nce(x, y, temperature=0.5)),
    )

  np.testing.assert_allclose(at(values, x, y), (0, np.log(N)), atol=1e-5)


def test_club_with_joint_pairs_is_that_of_the_paper():
  value = at(lambda x: measure.club_bound(x, include_joint=True), SCORES)
  np.testing.assert_allclose(value, np.diag(SCORES).mean() - SCORES.mean(), rtol=1e-5)


def test_the_true_ratio_of_gaussians_is_where_bounds_meet_the_truth():
  rho, n = 0.8, 1500
  x = RNG.normal(size=n)
  y = rho * x + np.sqrt(1 - rho**2) * RNG.normal(size=n)
  a, b = x[:, None], y[None]
  ratio = -(rho**2 * (a**2 + b**2) - 2 * rho * a * b) / (2 * (1 - rho**2))

  def values(x):
    return (
      measure.info_nce_bound(x),
      measure.donsker_varadhan_bound(x),
      measure.nwj_bound(x + 1),
      # The 1 that other code leaves out: 1 / e too low.
      measure.jensen_shannon_bound(x),
      measure.club_bound(x),
    )

  *lower, upper = at(values, ratio - np.log(1 - rho**2) / 2)
  np.testing.assert_allclose(lower, np.full(4, -np.log(1 - rho**2) / 2), atol=0.06)
  # The mean of log p(y|x) over pairs less that over independent ones.
  np.testing.assert_allclose(upper, rho**2 / (1 - rho**2), rtol=0.08)


def test_errors_name_the_shape():
  with pytest.raises(ValueError, match=r"two pairs or more, got \(3, 4\)"):
    measure.info_nce_bound(jnp.ones((3, 4)))
  with pytest.raises(ValueError, match=r"two pairs or more, got \(1, 1\)"):
    measure.nwj_bound(jnp.ones((1, 1)))
  with pytest.raises(ValueError, match=r"log_baseline of shape \(\) or \(3,\), got \(2,\)"):
    measure.tuba_bound(jnp.ones((3, 3)), jnp.ones(2))
