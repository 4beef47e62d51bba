"""MCL: each stage trains a new encoder on what the clusters of the stages before do not tell."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.views import Crops, joint_embedding
from repjax.losses import clustered_info_nce


def mcl(
  encoder: nn.Module,
  projector: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  temperature: float = 0.1,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of one stage: negatives are of the example's own cluster alone.

  The first stage has one cluster of everything, which is InfoNCE. After each, `clusters` of all
  stages' features so far are the ``batch["cluster"]`` of the next, which starts anew. What stays in
  the end is every stage's features side by side. The authors draw whole batches from one cluster;
  here a batch is drawn from all, and needs to be so large that clusters have several rows in it.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``; dropped after training.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn twice per example.
    temperature: softmax temperature, > 0.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; ``batch["cluster"]`` is ``[batch]`` int32, -1 for what is left out of the loss.

  References:
    Zhang et al., `Learning the Unlearned: Mitigating Feature Suppression in Contrastive Learning
    <https://arxiv.org/abs/2402.11816>`_, 2024, section 4; code at
    https://github.com/MajorDavidZhang/MCL.
  """

  def loss(seen):
    (z_1, z_2), cluster = (view.projected for view in seen.online), seen.batch["cluster"]
    options = {"temperature": temperature, "axis_name": axis_name}
    to_second = clustered_info_nce(z_1, z_2, cluster, **options)
    to_first = clustered_info_nce(z_2, z_1, cluster, **options)
    return jnp.mean(to_second + to_first) / 2

  return joint_embedding(
    Network(encoder, projector),
    [Crops(augment, 2)],
    loss,
    normalize=normalize,
    axis_name=axis_name,
  )


def clusters(stages: Sequence[np.ndarray], *, count: int = 10, seed: int = 0) -> np.ndarray:
  """One number for each combination of the clusters in which the stages so far put an example.

  Args:
    stages: features of the same examples by each stage, ``[n, dim]`` each; scaled to unit length
      before k-means, as in the authors' code.
    count: clusters a stage, 10 in the authors' code.
    seed: of k-means.

  Returns:
    ``[n]`` int32, from 0 to ``count ** stages - 1``; zeros before the first stage's end need no
    call.
  """
  from sklearn.cluster import KMeans

  combined = np.zeros(len(stages[0]), np.int32)
  for features in stages:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(lengths, 1e-12)
    labels = KMeans(count, n_init=3, random_state=seed).fit_predict(unit)
    combined = combined * count + labels.astype(np.int32)
  return combined
