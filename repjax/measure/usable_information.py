"""How much of a feature a linear map can use, and how complex the feature is by that."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32


def linear_information(
  inputs: jax.Array,
  features: jax.Array,
  *,
  where: jax.Array | None = None,
  ridge: float | jax.Array = 1e-3,
) -> jax.Array:
  r"""Usable information about each feature for linear maps: the share of its variance explained.

  .. math:: \frac{I_{\mathcal V}(X \to z)}{H_{\mathcal V}(z)}
    = 1 - \frac{\sum_i (z_i - w^\top x_i - b)^2}{\sum_i (z_i - \bar z)^2}

  which V-information is, over the entropy of a feature, if the family V has Gaussians of a fixed
  variance about a linear map. With ``where``, the map is fitted on some rows and judged on the
  others: then it can be negative, and is not clipped. On the rows of the fit it is too high by
  some ``dim / n``.

  Args:
    inputs: ``[n, dim]``, such as the activations of a layer.
    features: ``[n, k]``, any number of targets.
    where: ``[n]`` boolean, the rows to fit on; if absent, fit and judge on all.
    ridge: penalty on the map as a share of the inputs' mean squared singular value, > 0.

  Returns:
    ``[k]`` float32, at most 1; undefined for a feature that does not vary.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Xu et al., `A Theory of Usable Information under Computational Constraints
    <https://arxiv.org/abs/2002.10689>`_, 2020, proposition 1 (its number from memory).
  """
  shapes = jnp.shape(inputs), jnp.shape(features)
  if [len(s) for s in shapes] != [2, 2] or shapes[0][0] != shapes[1][0]:
    raise ValueError(f"expected [n, dim] and [n, k] of one n, got {shapes[0]} and {shapes[1]}")
  x, z = at_least_float32(inputs), at_least_float32(features)
  fit = jnp.ones(len(x), bool) if where is None else where
  judge = fit if where is None else ~fit
  offset = jnp.mean(x, 0, where=fit[:, None], keepdims=True)
  level = jnp.mean(z, 0, where=fit[:, None], keepdims=True)
  x = x - offset
  known, target = jnp.where(fit[:, None], x, 0), jnp.where(fit[:, None], z - level, 0)
  smaller = min(x.shape)
  penalty = ridge * jnp.sum(known * known) / smaller
  penalty = jnp.maximum(penalty, jnp.finfo(x.dtype).tiny) * jnp.eye(smaller, dtype=x.dtype)
  product = lambda a, b: jnp.matmul(a, b, precision="highest")
  if x.shape[1] <= len(x):
    kernel = jnp.linalg.solve(product(known.T, known) + penalty, product(known.T, target))
  else:  # the same map by the smaller system
    kernel = product(known.T, jnp.linalg.solve(product(known, known.T) + penalty, target))
  error = jnp.square(z - level - product(x, kernel))
  spread = jnp.square(z - jnp.mean(z, 0, where=judge[:, None], keepdims=True))
  total = lambda y: jnp.sum(y, 0, where=judge[:, None])
  return 1 - total(error) / total(spread)


def feature_complexity(
  layers: Sequence[jax.Array],
  features: jax.Array,
  *,
  where: jax.Array | None = None,
  ridge: float | jax.Array = 1e-3,
) -> jax.Array:
  r"""How late in a network a feature becomes linearly readable.

  .. math:: K(z) = 1 - \frac1L \sum_l I_{\mathcal V}(f_l(x) \to z) / H_{\mathcal V}(z)

  with linear maps for V, see `linear_information`: 0 for what the first layer already holds, near
  1 for what only the last has.

  Args:
    layers: activations ``[n, dim]`` of each, of one n; widths may differ.
    features: ``[n, k]``, directions of the last layer or any targets.
    where: ``[n]`` boolean, the rows to fit on; if absent, fit and judge on all.
    ridge: as in `linear_information`.

  Returns:
    ``[k]`` float32, at least 0.

  Raises:
    ValueError: if shapes do not fit together or there is no layer.

  References:
    Fel et al., `Understanding Visual Feature Reliance through the Lens of Complexity
    <https://arxiv.org/abs/2407.06076>`_, 2024, section 3. The equation was not at hand;
    dividing by the feature's own entropy is ours, so that features of any scale compare.
  """
  if not layers:
    raise ValueError("layers is empty; give the activations of one layer or more")
  each = [linear_information(x, features, where=where, ridge=ridge) for x in layers]
  return 1 - jnp.mean(jnp.stack(each), 0)


def variance_explained(representation: jax.Array, features: jax.Array) -> jax.Array:
  r"""Share of a representation's variance that each feature explains on its own.

  .. math:: \frac{\lVert X^\top z \rVert^2}{\lVert X \rVert_F^2 \lVert z \rVert^2}

  for centred X and z: the other way round from `linear_information`, which asks whether a feature
  can be read. Features that all can be read perfectly may have very different shares. For
  uncorrelated features shares add up to 1 at most.

  Args:
    representation: ``[n, dim]``.
    features: ``[n, k]``.

  Returns:
    ``[k]`` float32 between 0 and 1; of a feature that has nothing to do with it 1/(n - 1).

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Lampinen et al., `Learned feature representations are biased by complexity, learning order,
    position, and more <https://arxiv.org/abs/2405.05847>`_, 2024, section 3.
  """
  shapes = jnp.shape(representation), jnp.shape(features)
  if [len(s) for s in shapes] != [2, 2] or shapes[0][0] != shapes[1][0]:
    raise ValueError(f"expected [n, dim] and [n, k] of one n, got {shapes[0]} and {shapes[1]}")
  x, z = at_least_float32(representation), at_least_float32(features)
  x, z = (y - jnp.mean(y, 0, keepdims=True) for y in (x, z))
  along = jnp.sum(jnp.square(jnp.matmul(x.T, z, precision="highest")), 0)
  return along / (jnp.sum(x * x) * jnp.sum(z * z, 0))
