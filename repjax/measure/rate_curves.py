"""Rate against quality: what a codec reaches at a rate, and how much less another one needs."""

import numpy as np

Curve = tuple[np.ndarray, np.ndarray]


def rate_frontier(rate: np.ndarray, quality: np.ndarray) -> Curve:
  """Points of a codec that no other point beats at once in rate and in quality.

  Args:
    rate: ``[points]``, > 0.
    quality: ``[points]``, higher is better.

  Returns:
    Rates and qualities, both ascending strictly.

  Raises:
    ValueError: if there is no point, shapes differ or a rate is not above 0.

  References:
    Gao et al., `Feature Coding in the Era of Large Models: Dataset, Test Conditions, and Benchmark
    <https://arxiv.org/abs/2412.04307>`_, 2024, section 6 (rate-accuracy curves).
  """
  rate, quality = _checked(rate, quality)
  order = np.lexsort((-quality, rate))
  rate, quality = rate[order], quality[order]
  best = np.maximum.accumulate(np.append(-np.inf, quality[:-1]))
  return rate[quality > best], quality[quality > best]


def quality_at_rate(
  rate: np.ndarray, quality: np.ndarray, at: float, *, floor: float = 0.0
) -> float:
  """Quality that a codec reaches within a rate.

  Between points of the frontier it is linear in the logarithm of the rate, which sharing time
  between both reaches at least where the frontier bends down.

  Args:
    rate: ``[points]``, > 0.
    quality: ``[points]``, higher is better.
    at: the rate, > 0.
    floor: what is reached below the least rate, such as chance.

  Returns:
    The quality.

  Raises:
    ValueError: see `rate_frontier`.
  """
  rate, quality = rate_frontier(rate, quality)
  return float(np.interp(np.log(at), np.log(rate), quality, left=floor))


def bjontegaard_rate(
  rate_anchor: np.ndarray,
  quality_anchor: np.ndarray,
  rate: np.ndarray,
  quality: np.ndarray,
  *,
  degree: int | None = 3,
) -> float:
  r"""How much more rate than an anchor a codec needs for the same quality, on average.

  .. math:: \exp\!\left(\frac{1}{q_1 - q_0} \int_{q_0}^{q_1} \log \frac{r(q)}{r_a(q)} \, dq
    \right) - 1

  over the qualities that both reach.

  Args:
    rate_anchor: ``[points]``, > 0.
    quality_anchor: ``[points]``, such as decibels or accuracy.
    rate: ``[other points]``, > 0.
    quality: ``[other points]``.
    degree: of the polynomials of quality that are fitted to the logarithms of the rates;
      Bjøntegaard's is 3 through four points. Absent for lines between the points of the frontier,
      which accuracies need that do not ascend with the rate.

  Returns:
    -0.5 if half the rate will do, 1 if it takes twice as much.

  Raises:
    ValueError: if both reach no common range of qualities, or there are too few points.

  References:
    Bjøntegaard, `Calculation of average PSNR differences between RD-curves
    <https://www.itu.int/wftp3/av-arch/video-site/0104_Aus/VCEG-M33.doc>`_, ITU-T SG16 VCEG-M33,
    2001.
  """
  curves = [_checked(rate_anchor, quality_anchor), _checked(rate, quality)]
  if degree is None:
    curves = [rate_frontier(*curve) for curve in curves]
  low = max(q.min() for _, q in curves)
  high = min(q.max() for _, q in curves)
  if not low < high:
    ends = [(float(q.min()), float(q.max())) for _, q in curves]
    raise ValueError(f"expected qualities with a range in common, got from {ends[0]} and {ends[1]}")
  means = []
  for r, q in curves:
    if degree is None:
      knots = np.unique(np.concatenate([[low, high], q[(q > low) & (q < high)]]))
      means.append(np.trapezoid(np.interp(knots, q, np.log(r)), knots) / (high - low))
      continue
    if len(q) <= degree:
      raise ValueError(f"{degree=} needs {degree + 1} points, got {len(q)}; use degree=None")
    integral = np.polynomial.Polynomial.fit(q, np.log(r), degree).integ()
    means.append((integral(high) - integral(low)) / (high - low))
  return float(np.exp(means[1] - means[0]) - 1)


def _checked(rate, quality):
  rate, quality = (np.asarray(x, np.float64) for x in (rate, quality))
  if rate.ndim != 1 or rate.shape != quality.shape or not len(rate) or rate.min() <= 0:
    raise ValueError(
      f"expected rates above 0 and qualities, [points] each, got {rate} and {quality}"
    )
  return rate, quality
