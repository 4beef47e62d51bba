"""Losses of preferences: which of two answers is better."""

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32, check_same_shape


def bradley_terry(
  chosen: jax.Array,
  rejected: jax.Array,
  *,
  temperature: float | jax.Array = 1.0,
  margin: float | jax.Array = 0.0,
) -> jax.Array:
  r"""Scores each answer alone: the better one should get the higher reward.

  .. math:: \ell = -\log \sigma\big( (r_w - r_l - m) / \tau \big)

  With the implicit rewards :math:`r = \beta \log (\pi(y|x) / \pi_{\text{ref}}(y|x))` in place of a
  reward model's this is direct preference optimisation (DPO).

  Args:
    chosen: reward of the better answer, ``[batch]``.
    rejected: reward of the worse one, ``[batch]``.
    temperature: scale of reward differences, > 0.
    margin: by how much the better one should win, a number or ``[batch]``.

  Returns:
    Loss per pair, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes differ or are not rank 1.

  References:
    Bradley and Terry, `Rank Analysis of Incomplete Block Designs
    <https://doi.org/10.2307/2334029>`_, 1952.
    Rafailov et al., `Direct Preference Optimization: Your Language Model is Secretly a Reward Model
    <https://arxiv.org/abs/2305.18290>`_, 2023, eq. 7.
  """
  check_same_shape(1, chosen=chosen, rejected=rejected)
  score = at_least_float32(chosen) - at_least_float32(rejected)
  return jax.nn.softplus((margin - score) / temperature)


def general_preference(
  chosen: jax.Array,
  rejected: jax.Array,
  *,
  temperature: float | jax.Array = 0.1,
  margin: float | jax.Array = 0.0,
) -> jax.Array:
  r"""Compares embeddings of answers, so that preferences may run in circles.

  .. math::
    \ell = -\log \sigma\big( (s(v_w, v_l) - m) / \tau \big), \quad
    s(v, u) = \sum_k v_{2k} u_{2k+1} - v_{2k+1} u_{2k}

  The score is skew-symmetric: swapping the answers changes its sign alone. With two dimensions,
  :math:`v = (r, 1)` gives `bradley_terry`. Embeddings are compared as they are. Where the prompt
  decides how much each pair of dimensions counts, multiply one side by that. The authors' code
  takes a temperature of 1 for two dimensions and of 0.1 for more.

  Args:
    chosen: embedding of the better answer, ``[batch, dim]``, of an even dimension.
    rejected: embedding of the worse one, ``[batch, dim]``.
    temperature: scale of scores, > 0.
    margin: by how much the better one should win, a number or ``[batch]``.

  Returns:
    Loss per pair, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes differ or the dimension is odd.

  References:
    Zhang et al., `General Preference Modeling with Preference Representations for Aligning Language
    Models <https://arxiv.org/abs/2410.02197>`_, 2024.
  """
  check_same_shape(2, chosen=chosen, rejected=rejected)
  if jnp.shape(chosen)[1] % 2:
    raise ValueError(f"dimensions are compared in pairs; got an odd number: {chosen.shape[1]}")
  v, u = at_least_float32(chosen), at_least_float32(rejected)
  score = jnp.sum(v[:, ::2] * u[:, 1::2] - v[:, 1::2] * u[:, ::2], -1)
  return jax.nn.softplus((margin - score) / temperature)
