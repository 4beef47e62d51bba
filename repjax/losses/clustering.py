"""Losses whose classes are clusters that the model finds itself."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, cross_entropy, l2_normalize
from repjax.losses.layout import batch_mean, batch_sum


def deepcluster(
  embeddings: jax.Array,
  prototypes: jax.Array,
  labels: jax.Array,
  *,
  temperature: float | jax.Array = 0.1,
) -> jax.Array:
  r"""Tells which cluster an image was put into, by the centroids themselves.

  .. math::
    \ell_i = -\log \frac{\exp(\cos(z_i, c_{y_i}) / \tau)}{\sum_k \exp(\cos(z_i, c_k) / \tau)}

  The form of DeepCluster-v2, in which spherical k-means gives both the labels and the weights of
  the classifier. DeepCluster itself learns a new linear classifier after each clustering.

  Args:
    embeddings: ``[batch, dim]``; normalised inside.
    prototypes: centroids, ``[clusters, dim]``; normalised inside.
    labels: the cluster of each image, ``[batch]`` int; -1 for none.
    temperature: > 0.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0; 0 where the label is -1.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Caron et al., `Deep Clustering for Unsupervised Learning of Visual Features
    <https://arxiv.org/abs/1807.05520>`_, 2018.
    Caron et al., `Unsupervised Learning of Visual Features by Contrasting Cluster Assignments
    <https://arxiv.org/abs/2006.09882>`_, 2020, which brings DeepCluster-v2.
  """
  shapes = {
    "embeddings": jnp.shape(embeddings),
    "prototypes": jnp.shape(prototypes),
    "labels": jnp.shape(labels),
  }
  if (
    [len(x) for x in shapes.values()] != [2, 2, 1]
    or shapes["embeddings"][1] != shapes["prototypes"][1]
    or shapes["embeddings"][:1] != shapes["labels"]
  ):
    raise ValueError(f"expected [batch, dim], [clusters, dim] and [batch], got {shapes}")
  embeddings, prototypes = (l2_normalize(at_least_float32(x)) for x in (embeddings, prototypes))
  logits = jnp.matmul(embeddings, prototypes.T, precision="highest") / temperature
  return jnp.where(labels >= 0, cross_entropy(logits, labels), 0)


def scan(
  anchors: jax.Array,
  neighbors: jax.Array,
  *,
  entropy_weight: float | jax.Array = 5.0,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Semantic clustering by adopting nearest neighbours.

  An image and a neighbour of its, in the space of a pretext task, belong to one cluster, and all
  clusters are used:

  .. math::
    \ell = -\frac{1}{n} \sum_i \log \langle p_i, p_i^{\text{neighbor}} \rangle
      + \lambda \sum_k \bar p_k \log \bar p_k, \qquad \bar p = \frac{1}{n} \sum_i p_i

  with :math:`p` the softmax of the logits. Gradients reach both arguments; the mean is of the
  anchors alone, as in the authors' code.

  Args:
    anchors: logits of images, ``[batch, clusters]``.
    neighbors: logits of one neighbour of each, same shape.
    entropy_weight: :math:`\lambda`.
    where: ``[batch]`` bool, images that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Scalar float32, >= :math:`-\lambda \log k` for k clusters, the same on all shards; 0 if nothing
    takes part.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Van Gansbeke et al., `SCAN: Learning to Classify Images without Labels
    <https://arxiv.org/abs/2005.12320>`_, 2020, section 2.2.
  """
  check_same_shape(2, anchors=anchors, neighbors=neighbors)
  log_p, log_neighbor = (jax.nn.log_softmax(at_least_float32(x), -1) for x in (anchors, neighbors))
  apart = -jax.nn.logsumexp(log_p + log_neighbor, -1)
  mean_p = batch_mean(jnp.exp(log_p), axis_name, where=where)
  # A cluster whose probability is rounded to 0 adds nothing; nor does its logarithm.
  log_mean = jnp.log(jnp.maximum(mean_p, jnp.finfo(mean_p.dtype).tiny))
  return batch_mean(apart, axis_name, where=where) + entropy_weight * jnp.sum(mean_p * log_mean)


def self_label(
  weak: jax.Array,
  strong: jax.Array,
  *,
  threshold: float | jax.Array = 0.99,
  balance: bool = True,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Learns the clusters of confident images again, from strongly augmented views of them.

  .. math::
    \ell = \frac{\sum_{i \in C} w_{y_i} H(y_i, p_i)}{\sum_{i \in C} w_{y_i}}, \qquad
    C = \{i : \max_k p^{\text{weak}}_{ik} > t\}, \quad
    y_i = \operatorname{argmax}_k p^{\text{weak}}_{ik}

  where :math:`w_k` is one over the number of images in C that are labelled k, so that each cluster
  counts once, or 1 without ``balance``. No gradient reaches the weak view.

  Args:
    weak: logits of weakly augmented images, ``[batch, clusters]``.
    strong: logits of strongly augmented views of them, same shape.
    threshold: probability above which an image is confident.
    balance: whether clusters count equally, otherwise images do.
    where: ``[batch]`` bool, images that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Scalar float32, >= 0, the same on all shards; 0 if no image is confident.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Van Gansbeke et al., `SCAN: Learning to Classify Images without Labels
    <https://arxiv.org/abs/2005.12320>`_, 2020, section 2.3.
  """
  check_same_shape(2, weak=weak, strong=strong)
  weak, strong = lax.stop_gradient(at_least_float32(weak)), at_least_float32(strong)
  labels = jnp.argmax(weak, -1)
  confident = jnp.max(jax.nn.softmax(weak, -1), -1) > threshold
  if where is not None:
    confident &= where
  chosen = (labels[:, None] == jnp.arange(weak.shape[1])[None]) & confident[:, None]
  counts = batch_sum(jnp.sum(chosen, 0, dtype=strong.dtype), axis_name)
  weights = jnp.where(confident, 1 / jnp.maximum(counts[labels], 1) if balance else 1, 0)
  loss = jnp.where(confident, cross_entropy(strong, labels), 0)
  total, weight = batch_sum((jnp.sum(weights * loss), jnp.sum(weights)), axis_name)
  return total / jnp.where(weight > 0, weight, 1)


def depict_targets(
  logits: jax.Array, *, where: jax.Array | None = None, axis_name: str | None = None
) -> jax.Array:
  r"""Predictions, corrected for how often each cluster is predicted.

  .. math::
    q_{ik} \propto \frac{p_{ik}}{\big(\sum_{i'} p_{i'k}\big)^{1/2}}, \qquad \sum_k q_{ik} = 1

  with :math:`p` the softmax of the logits: the closed form of DEPICT's expectation step. Its loss
  is the cross entropy of these targets and the predictions from noisy inputs. No gradient flows
  through.

  Args:
    logits: of clean inputs, ``[batch, clusters]``.
    where: ``[batch]`` bool, examples that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    ``[batch, clusters]`` float32, rows that sum to 1; 0 where ``where`` is false.

  Raises:
    ValueError: if ``logits`` is not rank 2.

  References:
    Dizaji et al., `Deep Clustering via Joint Convolutional Autoencoder Embedding and Relative
    Entropy Minimization <https://arxiv.org/abs/1704.06327>`_, 2017, section 3.1.
  """
  check_same_shape(2, logits=logits)
  log_p = jax.nn.log_softmax(lax.stop_gradient(at_least_float32(logits)), -1)
  p = jnp.exp(log_p) if where is None else jnp.where(where[:, None], jnp.exp(log_p), 0)
  frequency = batch_sum(jnp.sum(p, 0), axis_name)
  frequency = jnp.maximum(frequency, jnp.finfo(frequency.dtype).tiny)
  targets = jax.nn.softmax(log_p - jnp.log(frequency)[None] / 2, -1)
  return targets if where is None else jnp.where(where[:, None], targets, 0)


def elr(logits: jax.Array, targets: jax.Array) -> jax.Array:
  r"""Early-learning regularisation: stay with what was predicted before labels were memorised.

  .. math:: \ell_i = \log(1 - \langle p_i, t_i \rangle)

  with :math:`p` the softmax of the logits, held between 1e-4 and 1 - 1e-4 as in the authors' code.
  It is added to the cross entropy of the noisy labels, times 3 for CIFAR-10. The authors move the
  targets by `elr_targets` before they use them. No gradient reaches the targets.

  Args:
    logits: ``[batch, classes]``.
    targets: running means of predictions, ``[batch, classes]``, rows that sum to 1 at most.

  Returns:
    Loss per example, ``[batch]`` float32, <= 0.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Liu et al., `Early-Learning Regularization Prevents Memorization of Noisy Labels
    <https://arxiv.org/abs/2007.00151>`_, 2020, section 4.
  """
  check_same_shape(2, logits=logits, targets=targets)
  targets = lax.stop_gradient(at_least_float32(targets))
  agreement = jnp.sum(_bounded(logits) * targets, -1)
  return jnp.log1p(-jnp.minimum(agreement, 1 - 1e-4))  # above only if targets sum to more than 1


def elr_targets(
  targets: jax.Array, logits: jax.Array, *, momentum: float | jax.Array = 0.7
) -> jax.Array:
  r"""Moves the targets of `elr` to the predictions.

  .. math:: t_i \leftarrow \beta t_i + (1 - \beta) p_i

  with :math:`p` the softmax of the logits, bounded as in `elr` and scaled to sum to 1 again.
  Targets start at 0. No gradient flows through.

  Args:
    targets: of the examples of this batch, ``[batch, classes]``.
    logits: ``[batch, classes]``.
    momentum: weight of the past.

  Returns:
    The targets, ``[batch, classes]`` float32.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Liu et al., `Early-Learning Regularization Prevents Memorization of Noisy Labels
    <https://arxiv.org/abs/2007.00151>`_, 2020, section 4.
  """
  check_same_shape(2, targets=targets, logits=logits)
  p = _bounded(logits)
  p /= jnp.sum(p, -1, keepdims=True)
  return lax.stop_gradient(momentum * at_least_float32(targets) + (1 - momentum) * p)


def _bounded(logits) -> jax.Array:
  return jnp.clip(jax.nn.softmax(at_least_float32(logits), -1), 1e-4, 1 - 1e-4)
