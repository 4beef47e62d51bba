"""JULE: clusters that merge teach the representation by which they merge."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.augment import to_float
from repjax.learners.learner import Objective, apply_module, init_module
from repjax.learners.spread import spread
from repjax.losses import triplet_all
from repjax.losses.distances import squared_euclidean


def jule(
  encoder: nn.Module,
  *,
  margin: float = 0.2,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of JULE's backward pass: triplets of clusters.

  .. math:: [\gamma \lVert x_i - x_j \rVert^2 - \lVert x_i - x_k \rVert^2 + m]_+

  for i and j of one cluster and k of another, features of unit length. The weight :math:`\gamma` is
  1, the default of the authors' code, which draws 20 k of the batch for each pair; here all of the
  batch's take part.

  The forward pass is on the host, see `neighbor_graph`, `first_clusters`, `merge_clusters` and
  `unrolled`. The two alternate: clusters of the images' pixels first; some epochs of this
  objective; the clusters, merged by the new features; and so on, until enough have merged.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    margin: :math:`m`, 0.2 in the authors' code.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; ``batch["cluster"]`` is ``[batch]`` int32, and -1 leaves an example out. Features
    are to be scaled to unit length before they are compared.

  References:
    Yang et al., `Joint Unsupervised Learning of Deep Representations and Image Clusters
    <https://arxiv.org/abs/1604.03628>`_, 2016, section 3.4, eq. 11; ``TripletEmbedding.lua`` of
    https://github.com/jwyang/JULE.torch.
  """

  def init(key, batch):
    params, rest = init_module(encoder, key, normalize(to_float(batch["image"])))
    return {"encoder": params}, rest

  def loss(params, extra, batch, key):
    del key
    image = normalize(to_float(batch["image"]))
    features, extra = apply_module(encoder, params["encoder"], extra, image, train=True)
    options = {"margin": margin, "distance": squared_euclidean, "normalize": True}
    per_anchor = triplet_all(features.pooled, batch["cluster"], axis_name=axis_name, **options)
    return jnp.mean(per_anchor), (extra, spread(features.pooled, axis_name=axis_name))

  def encode(params, extra, image):
    return apply_module(encoder, params["encoder"], extra, normalize(to_float(image)))[0]

  return Objective(init, loss, encode)


def unrolled(clusters: int, *, target: int, rate: float = 0.9) -> int:
  """How many clusters are left after the next period of merges.

  Args:
    clusters: how many there are.
    target: how many there are to be in the end.
    rate: share that merges in a period, in (0, 1]: 0.9 for images of many, 0.2 for those of few.

  Returns:
    Their number, at least ``target``.

  References:
    Yang et al., `Joint Unsupervised Learning of Deep Representations and Image Clusters
    <https://arxiv.org/abs/1604.03628>`_, 2016, section 3.2.
  """
  return max(target, clusters - int(-(-clusters * rate // 1)))
