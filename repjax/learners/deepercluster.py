"""DeeperCluster: tell an image's rotation and cluster, found by clustering the features again."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from repjax.arrays import at_least_float32, cross_entropy
from repjax.augment import quarter_turns, to_float
from repjax.learners.learner import (
  GradientState,
  Objective,
  apply_module,
  example_keys,
  init_module,
)
from repjax.learners.spread import spread


def deepercluster(
  encoder: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  turns: int = 4,
  coarse: int,
  fine: int,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of DeeperCluster: a softmax of two levels over rotation and clusters.

  .. math::
    \ell = -\log p(r, c \mid x_r) - \log p_{r, c}(f \mid x_r)

  An image is turned by r quarters, drawn at random; c is its coarse cluster among images turned
  likewise, f its fine cluster within (r, c), which has a classifier of its own. Without fine and
  coarse clusters (1 each) this is RotNet; without turns and coarse clusters, DeepCluster.

  ``batch["coarse"]``, ``batch["fine"]`` and ``batch["weight"]``, ``[batch, turns]``, are those of
  `cluster_labels`, made anew between epochs, after which `restart_heads` forgets the classifiers.

  Args:
    encoder: square images ``[batch, size, size, channels]`` to `Features`.
    augment: ``(key, image) -> image`` for one image in [0, 1], before it is turned.
    turns: rotations that are told apart, 4, or 1 for upright images alone.
    coarse: clusters of each rotation; 4 in the paper.
    fine: clusters within each of those.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. Its metrics are ``coarse_accuracy``, ``fine_accuracy`` and those of `spread`.

  References:
    Caron et al., `Unsupervised Pre-Training of Image Features on Non-Curated Data
    <https://arxiv.org/abs/1905.01278>`_, 2019, section 3 (hierarchical loss); the `authors' code
    <https://github.com/facebookresearch/DeeperCluster>`_ clusters once into all upper classes,
    we follow the paper, whose upper classes are rotations times clusters.
  """
  upper = turns * coarse
  super_head = nn.Dense(upper, kernel_init=nn.initializers.zeros)

  def init(key, batch):
    image = normalize(to_float(batch["image"]))
    params, rest = init_module(encoder, key, image)
    pooled = encoder.apply({"params": params, **rest}, image).pooled
    dim = pooled.shape[-1]
    # Linear classifiers may start at 0, and do so again after each clustering.
    return {
      "encoder": params,
      "super_head": super_head.init(key, pooled)["params"],
      "sub_head": {
        "kernel": jnp.zeros((upper, dim, fine)),
        "bias": jnp.zeros((upper, fine)),
      },
    }, rest

  def loss(params, extra, batch, key):
    image = to_float(batch["image"])
    k_augment, k_turn = (
      example_keys(k, len(image), axis_name=axis_name) for k in jax.random.split(key)
    )
    turn = jax.vmap(lambda k: jax.random.randint(k, (), 0, turns))(k_turn)
    image = jax.vmap(augment)(k_augment, image)
    image = normalize(jax.vmap(lambda x, k: quarter_turns(x)[k])(image, turn))
    features, extra = apply_module(encoder, params["encoder"], extra, image, train=True)
    pooled = at_least_float32(features.pooled)

    of_turn = lambda x: jnp.take_along_axis(x, turn[:, None], 1)[:, 0]
    super_class = turn * coarse + of_turn(batch["coarse"])
    sub_class, weight = of_turn(batch["fine"]), of_turn(batch["weight"])
    super_logits = super_head.apply({"params": params["super_head"]}, pooled)
    heads = params["sub_head"]
    every = jnp.einsum("bd,sdk->bsk", pooled, heads["kernel"]) + heads["bias"][None]
    sub_logits = jnp.take_along_axis(every, super_class[:, None, None], 1)[:, 0]
    both = cross_entropy(super_logits, super_class) + cross_entropy(sub_logits, sub_class)
    metrics = {
      "coarse_accuracy": jnp.mean(jnp.argmax(super_logits, -1) == super_class),
      "fine_accuracy": jnp.mean(jnp.argmax(sub_logits, -1) == sub_class),
      **spread(pooled, axis_name=axis_name),
    }
    return jnp.mean(weight * both), (extra, metrics)

  def encode(params, extra, image):
    return apply_module(encoder, params["encoder"], extra, normalize(to_float(image)))[0]

  return Objective(init, loss, encode)


def cluster_labels(
  features: np.ndarray, *, coarse: int, fine: int, seed: int
) -> dict[str, np.ndarray]:
  """Clusters features of every rotation, and each cluster again.

  As in DeepCluster, features are whitened and scaled to unit length before, and rows of a large
  cluster weigh less, as if clusters were drawn uniformly.

  Args:
    features: ``[examples, turns, dim]``, of images turned by each number of quarters.
    coarse: clusters of each rotation.
    fine: clusters within each of those; fewer where there are fewer examples.
    seed: of k-means.

  Returns:
    ``coarse`` and ``fine``, int32, and ``weight``, float32 of mean 1, ``[examples, turns]`` each.

  References:
    Caron et al., `Deep Clustering for Unsupervised Learning of Visual Features
    <https://arxiv.org/abs/1807.05520>`_, 2018, sections 3.3 and 4.1.
  """
  size, turns, _ = features.shape
  labels = np.zeros((2, size, turns), np.int32)
  weight = np.zeros((size, turns))
  rows = _whiten(features.reshape(size * turns, -1)).reshape(size, turns, -1)
  found = 0
  for turn in range(turns):
    labels[0, :, turn] = _k_means(rows[:, turn], coarse, seed)
    for c in range(coarse):
      members = np.flatnonzero(labels[0, :, turn] == c)
      labels[1, members, turn] = _k_means(rows[members, turn], fine, seed)
    leaf = labels[0, :, turn] * fine + labels[1, :, turn]
    _, inverse, counts = np.unique(leaf, return_inverse=True, return_counts=True)
    weight[:, turn] = 1 / counts[inverse]
    found += len(counts)
  weight = (weight * size * turns / found).astype(np.float32)
  return {"coarse": labels[0], "fine": labels[1], "weight": weight}


def restart_heads(state: GradientState) -> GradientState:
  """Forgets the classifiers of the clusters before, and what the optimizer remembers of them.

  Args:
    state: of `deepercluster`.

  Returns:
    The state with both heads at 0.
  """
  heads = {"super_head", "sub_head"}

  def restart(path, x):
    return jnp.zeros_like(x) if heads & {getattr(p, "key", None) for p in path} else x

  return jax.tree_util.tree_map_with_path(restart, state)


def _whiten(rows):
  rows = rows.astype(np.float64) - rows.mean(0, keepdims=True)
  variance, axes = np.linalg.eigh(rows.T @ rows / len(rows))
  keep = variance > 1e-6 * variance[-1]
  rows = rows @ (axes[:, keep] / np.sqrt(variance[keep]))
  return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _k_means(rows, count, seed):
  from sklearn.cluster import KMeans

  count = min(count, len(rows))
  if count < 2:
    return np.zeros(len(rows), np.int32)
  return KMeans(count, n_init=1, max_iter=50, random_state=seed).fit_predict(rows)
