"""Rate and quality: closed forms, NumPy's polynomials, and what does not depend on order."""

import numpy as np
import pytest

from repjax.measure import bjontegaard_rate, quality_at_rate, rate_frontier

RNG = np.random.default_rng(0)
RATE = np.array([10.0, 25.0, 60.0, 150.0, 400.0])
QUALITY = np.array([28.0, 31.5, 33.0, 36.0, 38.5])
both = pytest.mark.parametrize("degree", [3, None])


@both
@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_a_curve_shifted_by_a_factor_gives_that_factor(degree, factor):
  ours = bjontegaard_rate(RATE, QUALITY, factor * RATE, QUALITY, degree=degree)
  np.testing.assert_allclose(ours, factor - 1, atol=1e-9)


@both
def test_it_is_the_area_between_the_curves(degree):
  """Log rates that are lines of quality: r = e^q and r = e^{2q} on qualities 1 to 3."""
  q, other = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.5, 4.0])
  ours = bjontegaard_rate(np.exp(q), q, np.exp(2 * other), other, degree=degree)
  np.testing.assert_allclose(ours, np.exp(2) - 1, rtol=1e-9)  # the mean of 2q - q


def test_cubics_are_those_of_numpy():
  rate, quality = np.array([8.0, 30.0, 90.0, 300.0]), np.array([29.0, 32.0, 35.5, 38.0])
  fits = [np.polyint(np.polyfit(q, np.log(r), 3)) for r, q in ((RATE, QUALITY), (rate, quality))]
  low, high = 29.0, 38.0
  areas = [np.polyval(f, high) - np.polyval(f, low) for f in fits]
  wanted = np.exp((areas[1] - areas[0]) / (high - low)) - 1
  np.testing.assert_allclose(bjontegaard_rate(RATE, QUALITY, rate, quality), wanted, rtol=1e-6)


@both
def test_swapping_the_codecs_inverts_the_factor(degree):
  args = (RATE, QUALITY), (0.7 * RATE[:4], QUALITY[:4] + [0.3, -0.2, 0.5, 0.1])
  there = bjontegaard_rate(*args[0], *args[1], degree=degree)
  back = bjontegaard_rate(*args[1], *args[0], degree=degree)
  np.testing.assert_allclose((1 + there) * (1 + back), 1, rtol=1e-9)


def test_the_frontier_holds_what_no_other_point_beats():
  rate, quality = RNG.uniform(1, 9, 40), RNG.uniform(size=40)
  ours = np.stack(rate_frontier(rate, quality))
  points = np.stack([rate, quality])
  kept = [
    p
    for p in points.T
    if not any(r <= p[0] and q >= p[1] and (r, q) != tuple(p) for r, q in points.T)
  ]
  np.testing.assert_array_equal(ours, np.array(sorted(map(tuple, kept))).T)
  again = rate_frontier(*points[:, RNG.permutation(40)])
  np.testing.assert_array_equal(ours, again)


def test_quality_within_a_rate_is_linear_in_its_logarithm():
  assert quality_at_rate(RATE, QUALITY, 10.0) == 28.0
  assert quality_at_rate(RATE, QUALITY, 1e6) == 38.5
  assert quality_at_rate(RATE, QUALITY, 9.9, floor=0.1) == 0.1
  np.testing.assert_allclose(quality_at_rate(RATE, QUALITY, np.sqrt(10 * 25)), 29.75)
  worse = np.append(RATE, 12.0), np.append(QUALITY, 1.0)  # a point that nobody would take
  assert quality_at_rate(*worse, 20.0) == quality_at_rate(RATE, QUALITY, 20.0)


def test_what_cannot_be_compared_is_named():
  with pytest.raises(ValueError, match=r"got from \(28.0, 38.5\) and \(60.0, 70.0\)"):
    bjontegaard_rate(RATE, QUALITY, [1.0, 2.0], [60.0, 70.0], degree=None)
  with pytest.raises(ValueError, match="needs 4 points, got 2"):
    bjontegaard_rate(RATE, QUALITY, [1.0, 2.0], [30.0, 35.0])
  with pytest.raises(ValueError, match="rates above 0"):
    rate_frontier([0.0, 1.0], [1.0, 2.0])
