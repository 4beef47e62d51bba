"""CKA of all layers of two nets from minibatches: `init`, `update`, `combine`, `finalize`.

    sums = minibatch_cka.init(3, 4)
    for batch in batches:
      sums = minibatch_cka.update(sums, layers_1(batch), layers_2(batch))
    matrix = minibatch_cka.finalize(sums)  # [3, 4]

Sums of shards or devices come together by `combine` (or by ``psum``, for they are plain sums).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32
from repjax.measure.kernels import centre_gram, linear_gram


class HsicSums(NamedTuple):
  """Unbiased HSIC, summed over minibatches.

  Attributes:
    cross: ``[layers_1, layers_2]``, of a layer of each net.
    first: ``[layers_1]``, of the first net's layers with themselves.
    second: ``[layers_2]``, of the second's.
    batches: how many, a float scalar.
  """

  cross: jax.Array
  first: jax.Array
  second: jax.Array
  batches: jax.Array


def init(layers_1: int, layers_2: int) -> HsicSums:
  """Sums of no minibatch.

  Args:
    layers_1: number of layers of the first net.
    layers_2: of the second.

  Returns:
    Zeros.
  """
  return HsicSums(
    jnp.zeros((layers_1, layers_2)), jnp.zeros(layers_1), jnp.zeros(layers_2), jnp.zeros(())
  )


def update(
  sums: HsicSums, layers_1: Sequence[jax.Array], layers_2: Sequence[jax.Array]
) -> HsicSums:
  """Adds a minibatch, whose Gram matrices ``[batch, batch]`` memory holds, one a layer.

  Args:
    sums: of the minibatches before.
    layers_1: ``[batch, ...]`` each, flattened here; ``batch`` >= 4.
    layers_2: ``[batch, ...]`` each, of the same examples.

  Returns:
    The sums with this one; every minibatch weighs alike, so that a short last one is best left out
    or filled up with other examples.

  Raises:
    ValueError: if the layers are not as many as the sums', or not of as many examples, or fewer
      than 4.
  """
  given, known = (len(layers_1), len(layers_2)), sums.cross.shape
  sizes = {len(x) for x in (*layers_1, *layers_2)}
  if given != known or len(sizes) != 1:
    raise ValueError(
      f"expected {known} layers of the same examples, got {given} of {sorted(sizes)} examples"
    )
  (size,) = sizes

  def centred(layers):
    grams = [linear_gram(at_least_float32(x).reshape(size, -1)) for x in layers]
    return jnp.stack([centre_gram(gram, unbiased=True).reshape(-1) for gram in grams])

  first, second = centred(layers_1), centred(layers_2)
  scale = size * (size - 3)
  return HsicSums(
    sums.cross + jnp.matmul(first, second.T, precision="highest") / scale,
    sums.first + jnp.sum(first**2, 1) / scale,
    sums.second + jnp.sum(second**2, 1) / scale,
    sums.batches + 1,
  )


def combine(sums_1: HsicSums, sums_2: HsicSums) -> HsicSums:
  """Sums of two lots of minibatches.

  Args:
    sums_1: of some minibatches.
    sums_2: of others.

  Returns:
    Sums of all; associative and commutative up to rounding.
  """
  return jax.tree.map(jnp.add, sums_1, sums_2)


def finalize(sums: HsicSums) -> jax.Array:
  r"""CKA of all pairs of layers.

  .. math::
    \frac{\frac{1}{k} \sum_i \mathrm{HSIC}_1(K_i, L_i)}
    {\sqrt{\frac{1}{k} \sum_i \mathrm{HSIC}_1(K_i, K_i)}
    \sqrt{\frac{1}{k} \sum_i \mathrm{HSIC}_1(L_i, L_i)}}

  with the unbiased estimate, so that its expectation does not depend on the batch size: the mean is
  of HSICs and not of ratios.

  Args:
    sums: of one minibatch or more.

  Returns:
    ``[layers_1, layers_2]``; 0 where a layer is constant.

  References:
    Nguyen et al., `Do Wide and Deep Networks Learn the Same Things? Uncovering How Neural Network
    Representations Vary with Width and Depth <https://arxiv.org/abs/2010.15327>`_, 2021, eq. 2
    and 3.
  """
  scale = jnp.sqrt(sums.first)[:, None] * jnp.sqrt(sums.second)[None]
  return jnp.where(scale > 0, sums.cross / jnp.where(scale > 0, scale, 1), 0)
