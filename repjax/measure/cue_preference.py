"""Which of several equally good cues a model took: the card-sorting test."""

import jax
import jax.numpy as jnp


def diagonal(cues: jax.Array) -> jax.Array:
  """Examples on which all cues say the same: those to train on.

  Args:
    cues: ``[n, cues]`` integers, the label that each cue of an example speaks for.

  Returns:
    ``[n]`` boolean.

  Raises:
    ValueError: if ``cues`` is not rank 2.
  """
  if jnp.ndim(cues) != 2:
    raise ValueError(f"expected cues [n, cues], got {jnp.shape(cues)}")
  return jnp.all(cues == cues[:, :1], 1)


def cue_preference(predictions: jax.Array, cues: jax.Array) -> jax.Array:
  r"""Accuracy by each cue where cues disagree, for a model trained on those that agree.

  .. math:: A_k = P(\hat y = c_k \mid \text{cues are not all equal})

  Cues drawn independently from L values give :math:`1/L`, and a little less off the diagonal, to a
  model that heeds another.

  Args:
    predictions: ``[n]`` integers.
    cues: ``[n, cues]`` integers; rows on the diagonal are left out.

  Returns:
    ``[cues]`` float32 between 0 and 1.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Scimeca et al., `Which Shortcut Cues Will DNNs Choose? A Study from the Parameter-Space
    Perspective <https://arxiv.org/abs/2110.03095>`_, 2021, section 3.
  """
  off = ~diagonal(cues)
  if jnp.shape(predictions) != off.shape:
    raise ValueError(
      f"expected predictions {off.shape} for cues {jnp.shape(cues)}, got {jnp.shape(predictions)}"
    )
  right = (predictions[:, None] == cues).astype(jnp.float32)
  return jnp.mean(right, 0, where=off[:, None])
