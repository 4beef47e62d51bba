"""Contrastive losses between two modalities, row-aligned: images and texts, or any other two."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import check_labels
from repjax.losses.layout import batch_mean
from repjax.losses.pairs import PairSums, pair_sums
from repjax.losses.partners import aligned, both_kept, products


def clip(
  image: jax.Array,
  text: jax.Array,
  *,
  temperature: float | jax.Array = 0.07,
  label_smoothing: float = 0.0,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Symmetric softmax cross entropy: each image picks its text, each text its image.

  .. math::
    \ell_i = \frac12 \log \sum_j e^{(s_{ij} - s_{ii}) / \tau}
      + \frac12 \log \sum_j e^{(s_{ji} - s_{ii}) / \tau}

  with :math:`s_{ij}` the cosine of image i and text j. open_clip's ``logit_scale`` is
  ``1 / temperature``, and its inputs are normalised by the caller.

  Args:
    image: ``[batch, dim]``; normalised inside.
    text: row-aligned with ``image``, ``[batch, dim]``.
    temperature: softmax temperature, > 0; may be learned.
    label_smoothing: share of each target that is spread evenly over the batch, as in ALIGN.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per pair, ``[batch]`` float32, >= 0; 0 where ``where`` is false.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Radford et al., `Learning Transferable Visual Models From Natural Language Supervision
    <https://arxiv.org/abs/2103.00020>`_, 2021, figure 3.
    Jia et al., `Scaling Up Visual and Vision-Language Representation Learning With Noisy Text
    Supervision <https://arxiv.org/abs/2102.05918>`_, 2021 (label smoothing).
  """
  rows, columns, positive = aligned(image, text, temperature, where, axis_name)
  terms = functools.partial(_both_ways, precision=precision)
  sums = pair_sums(terms, rows, columns, tile_size=tile_size, axis_name=axis_name)
  target = positive
  if label_smoothing:
    # The mean of a row of logits is the logit of the mean.
    means = (batch_mean(x["z"], axis_name, where=where)[None] for x in (columns, rows))
    even = sum(jnp.sum(x["z"] * mean, -1) for x, mean in zip((rows, columns), means, strict=True))
    target = (1 - label_smoothing) * positive + label_smoothing * even / 2
  loss = (sums.log_sums[0] + sums.column_log_sums[0]) / 2 - target
  return loss if where is None else jnp.where(where, loss, 0)


def siglip(
  image: jax.Array,
  text: jax.Array,
  *,
  temperature: float | jax.Array = 0.1,
  bias: float | jax.Array = -10.0,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""Sigmoid loss: whether an image and a text belong together, pair by pair.

  .. math::
    \ell_i = \sum_j \log\bigl(1 + e^{-y_{ij} (s_{ij} / \tau + b)}\bigr),
    \qquad y_{ii} = 1,\; y_{ij} = -1

  with :math:`s_{ij}` the cosine of image i and text j. The sum over texts is kept: the mean over
  images is the paper's loss and open_clip's, which divides by the batch and not by its square.

  Args:
    image: ``[batch, dim]``; normalised inside.
    text: row-aligned with ``image``, ``[batch, dim]``.
    temperature: divides the cosines, > 0; may be learned. The paper starts at 1/10.
    bias: added to the logits; may be learned. The paper starts at -10.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per image, ``[batch]`` float32, >= 0; 0 where ``where`` is false.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Zhai et al., `Sigmoid Loss for Language Image Pre-Training
    <https://arxiv.org/abs/2303.15343>`_, 2023, eq. 2.
  """
  rows, columns, positive = aligned(image, text, temperature, where, axis_name)
  shared = {"bias": jnp.asarray(bias, positive.dtype)}
  terms = functools.partial(_yes_or_no, precision=precision)
  sums = pair_sums(terms, rows, columns, shared, tile_size=tile_size, axis_name=axis_name)
  return sums.sums[0]


def unicl(
  image: jax.Array,
  text: jax.Array,
  labels: jax.Array,
  *,
  temperature: float | jax.Array = 0.07,
  where: jax.Array | None = None,
  tile_size: int | None = None,
  precision: lax.PrecisionLike = "highest",
  axis_name: str | None = None,
) -> jax.Array:
  r"""`clip` in which all pairs of one label belong together.

  .. math::
    \ell_i = \frac{1}{2 |P_i|} \sum_{k \in P_i} \Bigl(
      \log \sum_j e^{(s_{ij} - s_{ik}) / \tau} + \log \sum_j e^{(s_{ji} - s_{ki}) / \tau} \Bigr),
    \qquad P_i = \{k : y_k = y_i\}

  With all labels distinct this is `clip`. A captioned image without a class gets a label of its
  own, such as a hash of its text.

  Args:
    image: ``[batch, dim]``; normalised inside.
    text: row-aligned with ``image``, ``[batch, dim]``.
    labels: ``[batch]`` integers; -1 leaves a pair out.
    temperature: softmax temperature, > 0; may be learned.
    where: ``[batch]`` bool, pairs that take part; all if absent.
    tile_size: edge of the tiles in which logits are formed, 0 for one matrix; by size if absent.
    precision: of the products; ``"highest"`` is float32, ``"BF16_BF16_F32"`` faster.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Loss per pair, ``[batch]`` float32, >= 0; 0 for pairs that are left out.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Yang et al., `Unified Contrastive Learning in Image-Text-Label Space
    <https://arxiv.org/abs/2204.03610>`_, 2022, section 3.2.
    Yuan et al., `Florence: A New Foundation Model for Computer Vision
    <https://arxiv.org/abs/2111.11432>`_, 2021, section 2.2.
  """
  check_labels(labels, image=image)
  keep = labels >= 0
  where = keep if where is None else keep & where
  rows, columns, _ = aligned(image, text, temperature, where, axis_name)
  terms = functools.partial(_same_label, precision=precision)
  more = {"label": jnp.asarray(labels)}
  sums = pair_sums(terms, rows | more, columns | more, tile_size=tile_size, axis_name=axis_name)
  count = jnp.maximum(sums.sums[1], 1)
  to_text = sums.log_sums[0] - sums.sums[0] / count
  to_image = sums.column_log_sums[0] - sums.column_sums[0] / count
  return jnp.where(where, (to_text + to_image) / 2, 0)


def _both_ways(row, column, shared, precision) -> PairSums:
  del shared
  logits = products(row, column, precision)
  logits = both_kept(row, column, logits, -jnp.inf)
  return PairSums((logits,), column_log_sums=(logits,))


def _yes_or_no(row, column, shared, precision) -> PairSums:
  logits = products(row, column, precision) + shared["bias"]
  own = row["index"][:, None] == column["index"][None, :]
  return PairSums(
    sums=(both_kept(row, column, jax.nn.softplus(jnp.where(own, -logits, logits)), 0),)
  )


def _same_label(row, column, shared, precision) -> PairSums:
  del shared
  logits = products(row, column, precision)
  same = both_kept(row, column, row["label"][:, None] == column["label"][None, :], False)
  positive = jnp.where(same, logits, 0)
  logits = both_kept(row, column, logits, -jnp.inf)
  return PairSums(
    (logits,),
    (positive, same.astype(logits.dtype)),
    column_log_sums=(logits,),
    column_sums=(positive,),
  )
