"""Losses that hold embeddings to an isotropic normal distribution, in NumPy."""

import functools

import jax
import numpy as np
from harness import Case, normal

from repjax.losses import isotropic as ours

KEY = jax.random.key(0)


def epps_pulley(x, knots=17, t_max=3.0):
  out = []
  for column in x.T:
    t = np.linspace(-t_max, t_max, 2 * knots - 1)
    wave = np.array([np.mean(np.exp(1j * frequency * column)) for frequency in t])
    density = np.exp(-(t**2) / 2)
    out.append(len(column) * np.trapezoid(np.abs(wave - density) ** 2 * density, t))
  return np.array(out)


def sigreg(z, slices=1024, knots=17, t_max=3.0):
  a = np.asarray(jax.random.normal(KEY, (slices, z.shape[1]), np.float32), np.float64)
  a /= np.linalg.norm(a, axis=1, keepdims=True)
  return np.mean(epps_pulley(z @ a.T, knots, t_max))


def lejepa(z, sigreg_weight=0.05, global_views=None, slices=1024):
  error = 0.0
  for views in z:
    centre = views[:global_views].mean(0)
    error += np.mean((views - centre) ** 2) / len(z)
  shape = np.mean([sigreg(z[:, v], slices) for v in range(z.shape[1])])
  return (1 - sigreg_weight) * error + sigreg_weight * shape


def views(rng, batch, dim):
  return {"z": rng.normal(size=(batch, 3, dim))}


FEW = {"slices": 7}
CASES = [
  Case(
    "sigreg",
    functools.partial(ours.sigreg, key=KEY),
    normal("z"),
    sigreg,
    options=FEW | {"knots": 9, "t_max": 5.0},
  ),
  Case("lejepa", functools.partial(ours.lejepa, key=KEY), views, lejepa, options=FEW),
  Case(
    "lejepa_global_views",
    functools.partial(ours.lejepa, key=KEY),
    views,
    lejepa,
    options=FEW | {"global_views": 2, "sigreg_weight": 0.5},
  ),
]
