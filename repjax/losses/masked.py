"""Losses that ask for what was hidden."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import (
  at_least_float32,
  check_mask,
  check_same_shape,
  cross_entropy,
  masked_mean,
  standardize,
)


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
    Loss per example, ``[batch]`` float32, >= 0; 0 where nothing is masked.

  Raises:
    ValueError: if shapes do not match or ``norm`` is unknown.

  References:
    Xie et al., `SimMIM <https://arxiv.org/abs/2111.09886>`_, 2021, eq. 1.
    He et al., `Masked Autoencoders <https://arxiv.org/abs/2111.06377>`_, 2021, section 3.
  """
  check_same_shape(3, prediction=prediction, target=target)
  check_mask(mask, jnp.shape(target)[:2])
  if norm not in ("l1", "l2"):
    raise ValueError(f"norm={norm!r} is unknown; choose 'l1' or 'l2'")
  prediction, target = at_least_float32(prediction), at_least_float32(target)
  target = lax.stop_gradient(target)
  if normalize_target:
    target = standardize(target, eps=1e-6, ddof=1)
  error = prediction - target
  # Unlike that of jnp.abs, the gradient of a product with the sign is 0 where there is no error.
  error = error * (jnp.sign(error) if norm == "l1" else error)
  return masked_mean(jnp.mean(error, -1), mask, axis=1)


def masked_tokens(
  logits: jax.Array,
  targets: jax.Array,
  mask: jax.Array | None = None,
  *,
  label_smoothing: float = 0.0,
) -> jax.Array:
  r"""Cross entropy of the discrete tokens that were hidden: words, or codes of image patches.

  .. math::
    \ell = -\frac{1}{|M|} \sum_{t \in M} \log
      \frac{\exp(x_{t, y_t})}{\sum_v \exp(x_{t, v})}

  The mean is over the masked tokens of each example. BEiT's and BERT's codes take it over those of
  the whole batch, which is the same where all examples hide equally many: otherwise weigh examples
  by how many they hide. Hugging Face marks what was not hidden by -100.

  Args:
    logits: ``[batch, tokens, vocabulary]``.
    targets: true tokens, ``[batch, tokens]`` integer; negative ones are left out.
    mask: what was hidden, ``[batch, tokens]`` bool; every token with a target if absent.
    label_smoothing: share of the target that is spread evenly over the vocabulary.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0; 0 where nothing is masked.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Devlin et al., `BERT: Pre-training of Deep Bidirectional Transformers for Language
    Understanding <https://arxiv.org/abs/1810.04805>`_, 2018, section 3.1.
    Bao et al., `BEiT: BERT Pre-Training of Image Transformers
    <https://arxiv.org/abs/2106.08254>`_, 2021, section 2.3.
  """
  if jnp.ndim(logits) != 3 or jnp.shape(logits)[:2] != jnp.shape(targets):
    raise ValueError(
      "expected logits [batch, tokens, vocabulary] and targets [batch, tokens], got "
      f"{jnp.shape(logits)} and {jnp.shape(targets)}"
    )
  keep = targets >= 0
  if mask is not None:
    check_mask(mask, jnp.shape(targets))
    keep = keep & mask
  logits = at_least_float32(logits)
  loss = cross_entropy(logits, targets, label_smoothing=label_smoothing)
  return masked_mean(loss, keep, axis=1)
