"""Losses of images that carry several tags."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape


def asymmetric_multi_label(
  logits: jax.Array,
  labels: jax.Array,
  *,
  gamma_positive: float = 1.0,
  gamma_negative: float = 4.0,
  clip: float = 0.05,
  through_weights: bool = True,
) -> jax.Array:
  r"""Binary cross entropy of tags, in which the many easy negatives hardly count.

  With :math:`p` the sigmoid of a logit and :math:`p_m = \max(p - m, 0)`, which leaves out negatives
  that are surely absent,

  .. math::
    \ell = -\sum_{c: y_c = 1} (1 - p_c)^{\gamma_+} \log p_c
      - \sum_{c: y_c = 0} p_{m,c}^{\gamma_-} \log(1 - p_{m,c})

  A sum over tags, as in the authors' code and in timm's mean over the batch. Both clamp
  probabilities at 1e-8 inside the logarithm; we work on log-probabilities and clamp nothing.
  RAM's copy of the code lets no gradient through the weights.

  Args:
    logits: one per tag, ``[batch, tags]``.
    labels: 1 where a tag is there, 0 where not, ``[batch, tags]`` int; negative where unknown.
    gamma_positive: how fast the weight of a positive falls as it is found, >= 0.
    gamma_negative: how fast that of a negative falls as it is ruled out, >= 0.
    clip: probability :math:`m` up to which a negative is left out.
    through_weights: whether gradients reach the weights, the powers.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Ridnik et al., `Asymmetric Loss For Multi-Label Classification
    <https://arxiv.org/abs/2009.14119>`_, 2020, section 2.
    Huang et al., `Inject Semantic Concepts into Image Tagging for Open-Set Recognition
    <https://arxiv.org/abs/2310.15200>`_, 2023.
  """
  check_same_shape(2, logits=logits, labels=labels)
  logits = at_least_float32(logits)
  weight = (lambda x: x) if through_weights else lax.stop_gradient
  log_absent = jax.nn.log_sigmoid(-logits)
  present = weight(jnp.exp(gamma_positive * log_absent)) * -jax.nn.log_sigmoid(logits)

  probability = jax.nn.sigmoid(logits)
  counts = probability > clip
  shifted = jnp.where(counts, probability - clip, 0.5)  # any number in (0, 1) where it is left out
  # log(1 - p + clip), which does not become log(0) as p reaches 1 while there is no clip.
  log_absent = jnp.logaddexp(log_absent, jnp.log(clip)) if clip else log_absent
  absent = jnp.where(counts, weight(shifted**gamma_negative) * -log_absent, 0)

  loss = jnp.where(labels > 0, present, jnp.where(labels == 0, absent, 0))
  return jnp.sum(loss, 1)
