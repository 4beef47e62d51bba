"""Losses of word vectors, from the words that stand near one another."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape


def skip_gram(word: jax.Array, context: jax.Array, negatives: jax.Array) -> jax.Array:
  r"""A word tells a neighbour from words drawn at random (negative sampling).

  .. math::
    \ell = -\log \sigma(\langle v, u\rangle) - \sum_{k=1}^n \log \sigma(-\langle v, u_k\rangle)

  A sum over the negatives. Words and contexts have tables of their own; negatives are drawn by
  frequency to the power of 3/4. With the sum of the context's words in place of ``word`` and the
  middle word in place of ``context`` this is CBOW.

  Args:
    word: vectors of words, ``[batch, dim]``.
    context: vectors of one neighbour each, ``[batch, dim]``.
    negatives: vectors of words drawn at random, ``[batch, n, dim]``.

  Returns:
    Loss per pair, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Mikolov et al., `Distributed Representations of Words and Phrases and their Compositionality
    <https://arxiv.org/abs/1310.4546>`_, 2013, eq. 4.
  """
  check_same_shape(2, word=word, context=context)
  if jnp.ndim(negatives) != 3 or jnp.shape(negatives)[::2] != jnp.shape(word):
    shapes = {"word": jnp.shape(word), "negatives": jnp.shape(negatives)}
    raise ValueError(f"expected word [batch, dim] and negatives [batch, n, dim], got {shapes}")
  word, context, negatives = (at_least_float32(x) for x in (word, context, negatives))
  near = jnp.sum(word * context, -1)
  far = jnp.einsum("bd,bnd->bn", word, negatives, precision="highest")
  return jax.nn.softplus(-near) + jnp.sum(jax.nn.softplus(far), 1)


def glove(
  score: jax.Array, count: jax.Array, *, cutoff: float = 100.0, power: float = 0.75
) -> jax.Array:
  r"""Squared error of the logarithm of how often two words stand near one another.

  .. math::
    \ell = \min(1, X / X_{\max})^\alpha \, (s - \log X)^2, \quad s = \langle w, c\rangle + b_w + b_c

  Pairs that never meet, of count 0, cost nothing.

  Args:
    score: products of the two words' vectors plus their biases, ``[batch]``.
    count: how often they meet, ``[batch]``, >= 0. No gradient.
    cutoff: count from which all pairs weigh the same.
    power: how fast the weight grows up to there.

  Returns:
    Loss per pair, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes differ or are not rank 1.

  References:
    Pennington et al., `GloVe: Global Vectors for Word Representation
    <https://aclanthology.org/D14-1162>`_, 2014, eq. 8.
  """
  check_same_shape(1, score=score, count=count)
  score, count = at_least_float32(score), at_least_float32(lax.stop_gradient(count))
  met = count > 0
  count = jnp.where(met, count, 1)
  weight = jnp.minimum(count / cutoff, 1) ** power
  return jnp.where(met, weight * jnp.square(score - jnp.log(count)), 0)
