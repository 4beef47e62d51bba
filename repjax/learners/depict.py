"""DEPICT: cluster codes of an autoencoder that keeps rebuilding its clean layers from noise."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from repjax.arrays import at_least_float32
from repjax.augment import to_float
from repjax.learners.learner import Objective, apply_module, example_keys, init_module
from repjax.learners.spread import spread
from repjax.losses import depict_targets


def depict(
  autoencoder: nn.Module,
  clusters: int,
  *,
  dropout: float = 0.1,
  layer_weight: float = 0.1,
  cluster_weight: float = 1.0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of DEPICT.

  .. math::
    \ell = -\frac{\lambda}{n} \sum_{ik} q_{ik} \log \tilde p_{ik}
      + \sum_l w_l \operatorname{mean} (z^l - \hat z^l)^2

  where :math:`\tilde p` is said of a noisy pass, the targets q of a clean one, and :math:`\hat z^l`
  is rebuilt from the noisy pass of the clean layer l, the image being layer 0 of weight 1. Targets
  and steps alternate: q is worked out anew of each batch, whose cluster frequencies stand for those
  of the data; the authors do so once an epoch, and their code has DEC's :math:`p^2 / f` in place
  of the paper's :math:`p / f^{1/2}`, which is followed here. As in the code, gradients reach clean
  layers too.

  First it runs with ``cluster_weight=0``, a denoising autoencoder. Then the head starts from
  k-means of the codes (`start_from`, `centroid_head`), where the authors learn it from the clusters
  of k-means.

  Args:
    autoencoder: an `Autoencoder`.
    clusters: their number.
    dropout: share of each layer, from the image to the last but one, that noise sets to 0.
    layer_weight: of each layer above the image, 0.1 in the code.
    cluster_weight: of the cross entropy; 0 for an autoencoder alone.
    normalize: last step before the autoencoder, in training and in ``encode``; what is rebuilt is
      normalised too.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; its parameters are ``autoencoder`` and ``head``, a linear layer on the code whose
    arg max is the cluster.

  References:
    Dizaji et al., `Deep Clustering via Joint Convolutional Autoencoder Embedding and Relative
    Entropy Minimization <https://arxiv.org/abs/1704.06327>`_, 2017, section 3.2 and algorithm 1.
  """
  head = nn.Dense(clusters)

  def init(key, batch):
    k_autoencoder, k_head = jax.random.split(key)
    image = normalize(to_float(batch["image"]))
    params, rest = init_module(autoencoder, k_autoencoder, image)
    code = autoencoder.apply({"params": params, **rest}, image).pooled
    return {"autoencoder": params, "head": head.init(k_head, code)["params"]}, rest

  def loss(params, extra, batch, key):
    image = normalize(to_float(batch["image"]))
    keys = example_keys(key, len(image), axis_name=axis_name)

    def drop(layer, x):
      if layer == len(autoencoder.widths):
        return x
      keep = lambda k, of_one: jax.random.bernoulli(
        jax.random.fold_in(k, layer), 1 - dropout, of_one.shape
      )
      return jnp.where(jax.vmap(keep)(keys, x), x / (1 - dropout), 0)

    run = lambda **options: apply_module(
      autoencoder, params["autoencoder"], extra, image, train=True, **options
    )[0]
    clean, (noisy, rebuilt) = run(), run(disturb=drop, decode=True)
    say = lambda code: at_least_float32(head.apply({"params": params["head"]}, code))
    targets = depict_targets(say(clean.pooled), axis_name=axis_name)
    log_p = jax.nn.log_softmax(say(noisy.pooled), -1)
    value = -cluster_weight * jnp.mean(jnp.sum(targets * log_p, -1))
    for layer, pair in enumerate(zip((image, *clean.layers), rebuilt, strict=True)):
      truth, guess = map(at_least_float32, pair)
      value += (layer_weight if layer else 1) * jnp.mean(jnp.square(truth - guess))
    return value, (extra, spread(clean.pooled, axis_name=axis_name))

  def encode(params, extra, image):
    image = normalize(to_float(image))
    return apply_module(autoencoder, params["autoencoder"], extra, image)[0]

  return Objective(init, loss, encode)


def centroid_head(centroids: np.ndarray, *, sharpness: float = 4.0) -> dict[str, np.ndarray]:
  r"""The linear layer whose arg max is the nearest centroid.

  .. math:: s \, (2 \langle x, c_k \rangle - \lVert c_k \rVert^2)
    = s \lVert x \rVert^2 - s \lVert x - c_k \rVert^2

  Args:
    centroids: ``[clusters, dim]``.
    sharpness: :math:`s`, > 0; the softmax is that of k Gaussians of variance 1 / (2 s).

  Returns:
    ``kernel`` ``[dim, clusters]`` and ``bias`` ``[clusters]``, for ``head`` of `depict`.
  """
  return {
    "kernel": np.float32(2 * sharpness) * centroids.T,
    "bias": -np.float32(sharpness) * np.sum(np.square(centroids), 1),
  }
