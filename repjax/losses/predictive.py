"""Losses that tell what comes next, or belongs together, from what does not."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape
from repjax.losses.contrastive import info_nce


def cpc(
  prediction: jax.Array,
  target: jax.Array,
  *,
  temperature: float | jax.Array = 1.0,
  over_time: bool = False,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Contrastive predictive coding: each prediction picks the code of its own future.

  With :math:`\hat z_{ik} = W_k c_i` what example i predicts for its k-th future step, of K, and
  :math:`z_{ik}` what comes,

  .. math::
    \ell_i = -\frac{1}{K} \sum_k \log \frac{\exp(\langle \hat z_{ik}, z_{ik}\rangle / \tau)}
      {\sum_j \exp(\langle \hat z_{ik}, z_{jk}\rangle / \tau)}

  Products are plain, as in the paper. Where several contexts of a sequence predict, each is an
  example of its own.

  Args:
    prediction: ``[batch, steps, dim]``.
    target: codes of the same steps, ``[batch, steps, dim]``.
    temperature: softmax temperature, > 0.
    over_time: whether targets of other steps, of all examples, are negatives too.
    where: ``[batch]`` bool, examples that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0, averaged over steps; 0 where ``where`` is false.
    The logarithm of the number of choices minus the loss is a lower bound of the mutual
    information in nats.

  Raises:
    ValueError: if the shapes differ or are not rank 3.

  References:
    van den Oord et al., `Representation Learning with Contrastive Predictive Coding
    <https://arxiv.org/abs/1807.03748>`_, 2018, eq. 4.
  """
  check_same_shape(3, prediction=prediction, target=target)
  batch, steps, dim = prediction.shape
  one_step = functools.partial(
    info_nce,
    temperature=temperature,
    normalize=False,
    tile_size=tile_size,
    precision=precision,
    axis_name=axis_name,
  )
  if over_time:
    where = None if where is None else jnp.repeat(where, steps)
    flat = (x.reshape(batch * steps, dim) for x in (prediction, target))
    losses = one_step(*flat, where=where).reshape(batch, steps)
  else:
    losses = jax.vmap(functools.partial(one_step, where=where), 1, 1)(prediction, target)
  return jnp.mean(losses, 1)


def curl_logistic(anchor: jax.Array, positive: jax.Array, negative: jax.Array) -> jax.Array:
  r"""Logistic loss of how much closer an example is to its like than to others.

  .. math::
    \ell = \log_2 \Bigl(1 + \sum_{i=1}^{k} \exp(-v_i)\Bigr), \qquad
    v_i = \langle f, f^+ - f^-_i \rangle

  where :math:`f^+` and each :math:`f^-_i` may be means of blocks of examples of one class: that is
  CURL. Plain products and the logarithm to base 2, as in the paper, so that equal positives and
  negatives cost 1 for k = 1.

  Args:
    anchor: ``[batch, dim]``.
    positive: ``[batch, dim]``, or blocks ``[batch, block, dim]``.
    negative: ``[batch, k, dim]``, or blocks ``[batch, k, block, dim]``.

  Returns:
    Loss per example, ``[batch]`` float32, > 0.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Arora et al., `A Theoretical Analysis of Contrastive Unsupervised Representation Learning
    <https://arxiv.org/abs/1902.09229>`_, 2019.
  """
  margins = _margins(anchor, positive, negative)
  with_zero = jnp.concatenate([jnp.zeros_like(margins[:, :1]), -margins], 1)
  return jax.nn.logsumexp(with_zero, 1) / math.log(2)


def curl_hinge(anchor: jax.Array, positive: jax.Array, negative: jax.Array) -> jax.Array:
  r"""Hinge loss of how much closer an example is to its like than to the closest of others.

  .. math::
    \ell = \max\bigl(0, 1 + \max_i (-v_i)\bigr), \qquad v_i = \langle f, f^+ - f^-_i \rangle

  with blocks as in `curl_logistic`.

  Args:
    anchor: ``[batch, dim]``.
    positive: ``[batch, dim]``, or blocks ``[batch, block, dim]``.
    negative: ``[batch, k, dim]``, or blocks ``[batch, k, block, dim]``.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Arora et al., `A Theoretical Analysis of Contrastive Unsupervised Representation Learning
    <https://arxiv.org/abs/1902.09229>`_, 2019.
  """
  return jax.nn.relu(1 - jnp.min(_margins(anchor, positive, negative), 1))


def _margins(anchor, positive, negative) -> jax.Array:
  arrays = {"anchor": anchor, "positive": positive, "negative": negative}
  shapes = {name: jnp.shape(x) for name, x in arrays.items()}
  ranks = [len(shape) for shape in shapes.values()]
  ends = {shape[:1] + shape[-1:] for shape in shapes.values()}
  if ranks[0] != 2 or ranks[1] not in (2, 3) or ranks[2] not in (3, 4) or len(ends) > 1:
    raise ValueError(
      "expected [batch, dim], positive [batch, (block,) dim] and negative [batch, k, (block,) dim],"
      f" got {shapes}"
    )
  anchor, positive, negative = map(at_least_float32, arrays.values())
  positive = jnp.mean(positive, 1) if positive.ndim == 3 else positive
  negative = jnp.mean(negative, 2) if negative.ndim == 4 else negative
  return jnp.sum(anchor[:, None, :] * (positive[:, None, :] - negative), -1)
