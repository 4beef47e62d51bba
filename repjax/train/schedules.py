"""Learning rates over a run that are not `repjax.train.optimize.warmup_cosine`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def cosine_power(
  peak: float, steps: int, *, power: float = 10.0, lowest: float = 0.0
) -> Callable[[int | jax.Array], jax.Array]:
  r"""Cosine power annealing: between a cosine, which falls late, and an exponential.

  .. math:: \eta_t = \eta_{\min} + (\eta_{\max} - \eta_{\min}) \frac{p^{1 + c_t} - p}{p^2 - p},
            \quad c_t = \frac{1 + \cos(\pi t / T)}{2}

  Args:
    peak: highest value, at step 0.
    steps: length of the run; afterwards the rate stays.
    power: :math:`p`, >= 1; 1 is the cosine.
    lowest: value at the end.

  Returns:
    ``step -> learning rate``, for optax.

  Raises:
    ValueError: if ``power`` is below 1.

  References:
    Hundt, Jain, Hager, `sharpDARTS: Faster and More Accurate Differentiable Architecture Search
    <https://arxiv.org/abs/1903.09900>`_, 2019, section 4. ``cnn/cosine_power_annealing.py`` of
    https://github.com/ahundt/sharpDARTS divides by the value at the first epoch, 1, not at 0.
  """
  if power < 1:
    raise ValueError(f"power={power} is below 1, where the rate is a cosine; choose 1 or more")

  def rate(step):
    cosine = (1 + jnp.cos(jnp.pi * jnp.minimum(step, steps) / steps)) / 2
    share = cosine if power == 1 else (power**cosine - 1) / (power - 1)
    return lowest + (peak - lowest) * share

  return rate
