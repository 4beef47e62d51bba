"""Losses in which one of several candidates is the partner, and nobody says which."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, l2_normalize
from repjax.losses.pairs import PairSums, log_sum_exp, pair_sums
from repjax.losses.partners import apart, places


def mil_nce(
  clip: jax.Array,
  captions: jax.Array,
  *,
  temperature: float | jax.Array = 1.0,
  normalize: bool = False,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""A video clip and some of its candidate captions find each other in the batch.

  With the products :math:`s_{ijk} = \langle v_i, t_{jk}\rangle` of clip i and the k-th caption of
  clip j

  .. math::
    \ell_i = -\log \frac{\sum_k e^{s_{iik} / \tau}}{\sum_k e^{s_{iik} / \tau}
      + \sum_{j \neq i} \sum_k \big( e^{s_{ijk} / \tau} + e^{s_{jik} / \tau} \big)}

  We follow the paper, which counts the positives once below the line, as UniVL's code does; the
  code of the paper's authors counts them twice, which gives :math:`\log(1 + e^{\ell_i})`.

  Args:
    clip: ``[batch, dim]``.
    captions: each clip's candidates, ``[batch, candidates, dim]``.
    temperature: softmax temperature, > 0; the paper has none.
    normalize: scale all vectors to unit length; otherwise plain products are compared.
    where: ``[batch]`` bool, clips that take part with their captions; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per clip, ``[batch]`` float32, >= 0; 0 where ``where`` is false.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Miech et al., `End-to-End Learning of Visual Representations from Uncurated Instructional Videos
    <https://arxiv.org/abs/1912.06430>`_, 2019, section 3.
    Luo et al., `UniVL: A Unified Video and Language Pre-Training Model for Multimodal Understanding
    and Generation <https://arxiv.org/abs/2002.06353>`_, 2020.
  """
  shapes = {"clip": jnp.shape(clip), "captions": jnp.shape(captions)}
  if jnp.ndim(captions) != 3 or shapes["captions"][::2] != shapes["clip"]:
    raise ValueError(f"expected clip [batch, dim] and captions [batch, n, dim], got {shapes}")
  clip, captions = at_least_float32(clip), at_least_float32(captions)
  if normalize:
    clip, captions = l2_normalize(clip), l2_normalize(captions)
  clip = clip / temperature
  row = places(len(clip), where, axis_name)
  sums = pair_sums(
    functools.partial(_other_clips, precision=precision),
    {"clip": clip} | row,
    {"captions": captions} | row,
    tile_size=tile_size,
    axis_name=axis_name,
  )
  own = jnp.einsum("bd,bkd->bk", clip, captions, precision=precision)
  positive = log_sum_exp(own, 1)
  negative = jnp.logaddexp(sums.log_sums[0], sums.column_log_sums[0])
  loss = jnp.logaddexp(positive, negative) - positive
  return loss if where is None else jnp.where(where, loss, 0)


def _other_clips(row, column, shared, precision) -> PairSums:
  """Logits of a clip with all captions of another."""
  del shared
  logits = jnp.einsum("rd,ckd->rck", row["clip"], column["captions"], precision=precision)
  logits = jnp.where(apart(row, column), log_sum_exp(logits, 2), -jnp.inf)
  return PairSums((logits,), column_log_sums=(logits,))
