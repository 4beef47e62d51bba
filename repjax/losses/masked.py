"""Losses that ask for what was hidden."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import check_same_shape, masked_mean


def masked_pixels(
  prediction: jax.Array,
  target: jax.Array,
  mask: jax.Array,
  *,
  norm: str = "l1",
  normalize_target: bool = False,
) -> jax.Array:
  r"""Error of predicted patches where they were hidden, and nowhere else.

  SimMIM takes the absolute error of raw pixels (``norm="l1"``); MAE the squared error of pixels
  that are standardised patch by patch (``norm="l2", normalize_target=True``).

  .. math:: \ell = \frac{1}{|M|\,d} \sum_{p \in M} \lVert \hat x_p - x_p \rVert_{1\text{ or }2}

  No gradient reaches ``target``.

  Args:
    prediction: predicted pixels of each patch, ``[batch, patches, pixels]``.
    target: true pixels of each patch, same shape.
    mask: what was hidden, ``[batch, patches]`` bool.
    norm: ``"l1"`` or ``"l2"`` (squared).
    normalize_target: subtract each patch's mean and divide by its standard deviation (unbiased
      variance, 1e-6 under the root, as in MAE's code).

  Returns:
    Loss per example, ``[batch]`` float32; 0 where nothing is masked.

  Raises:
    ValueError: if shapes do not match or ``norm`` is unknown.

  References:
    Xie et al., `SimMIM <https://arxiv.org/abs/2111.09886>`_, 2021, eq. 1.
    He et al., `Masked Autoencoders <https://arxiv.org/abs/2111.06377>`_, 2021, section 3.
  """
  check_same_shape(3, prediction=prediction, target=target)
  if jnp.shape(mask) != jnp.shape(target)[:2]:
    raise ValueError(f"expected mask of shape {jnp.shape(target)[:2]}, got {jnp.shape(mask)}")
  if norm not in ("l1", "l2"):
    raise ValueError(f"norm={norm!r} is unknown; choose 'l1' or 'l2'")
  prediction, target = prediction.astype(jnp.float32), target.astype(jnp.float32)
  target = lax.stop_gradient(target)
  if normalize_target:
    variance = jnp.var(target, -1, ddof=1, keepdims=True)
    target = (target - jnp.mean(target, -1, keepdims=True)) * lax.rsqrt(variance + 1e-6)
  error = prediction - target
  # Unlike that of jnp.abs, the gradient of a product with the sign is 0 where there is no error.
  error = error * (jnp.sign(error) if norm == "l1" else error)
  return masked_mean(jnp.mean(error, -1), mask, axis=1)
