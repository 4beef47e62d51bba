"""Losses that predict how an example's other views are assigned to prototypes."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_same_shape, l2_normalize
from repjax.losses.assignments import sinkhorn
from repjax.losses.layout import batch_mean, batch_sum, kept


def swav(
  scores: jax.Array, assignments: jax.Array, *, temperature: float | jax.Array = 0.1
) -> jax.Array:
  r"""Swapped prediction: each view predicts the assignments of the image's other views.

  With scores :math:`s` of V views and assignments :math:`q` of the first G of them,

  .. math::
    \ell = \frac{1}{G (V - 1)} \sum_{g=1}^{G} \sum_{v \neq g} -\sum_k q_{gk}
      \log \frac{\exp(s_{vk} / \tau)}{\sum_{k'} \exp(s_{vk'} / \tau)}

  The mean over pairs of views is that of lightly and of SwAV's code. Assignments come from
  `sinkhorn` of each view's scores, one view at a time; the batch is coupled there and not here.
  No gradient reaches them.

  Args:
    scores: cosines of embeddings and prototypes, ``[views, batch, prototypes]``, global views
      first.
    assignments: ``[global_views, batch, prototypes]``, rows that sum to 1.
    temperature: of the predictions, > 0.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes do not match, or no two views differ.

  References:
    Caron et al., `Unsupervised Learning of Visual Features by Contrasting Cluster Assignments
    <https://arxiv.org/abs/2006.09882>`_, 2020, section 3.
  """
  shapes = {"scores": jnp.shape(scores), "assignments": jnp.shape(assignments)}
  views, targets = (shape[0] if len(shape) == 3 else 0 for shape in shapes.values())
  if shapes["scores"][1:] != shapes["assignments"][1:] or not 1 <= targets <= views:
    raise ValueError(
      f"expected [views, batch, prototypes] and the same of as many or fewer views, got {shapes}"
    )
  if views < 2:
    raise ValueError(f"a view predicts those of others, but there is one view alone in {shapes}")
  assignments = lax.stop_gradient(at_least_float32(assignments))
  log_p = jax.nn.log_softmax(at_least_float32(scores) / temperature, -1)
  products = jnp.einsum("gbk,vbk->bgv", assignments, log_p, precision="highest")
  apart = ~jnp.eye(targets, views, dtype=bool)
  return -jnp.sum(jnp.where(apart, products, 0), (1, 2)) / (targets * (views - 1))


def msn(
  anchors: jax.Array,
  targets: jax.Array,
  prototypes: jax.Array,
  *,
  temperature: float | jax.Array = 0.1,
  sharpening: float | jax.Array = 0.25,
  iterations: int = 3,
  regularizer_weight: float | jax.Array = 1.0,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Masked siamese networks: masked views predict the prototypes of the whole image.

  `pmsn` with the uniform prior, whose divergence is :math:`\log K - H(\bar p)`: predictions are to
  use all K prototypes equally. As in the authors' code and in lightly, targets are balanced by
  `sinkhorn` after sharpening.

  Args:
    anchors: embeddings of masked views, ``[views, batch, dim]``; normalised inside.
    targets: embeddings of the whole images by the teacher, ``[batch, dim]``; normalised inside.
    prototypes: learned, ``[prototypes, dim]``; normalised inside.
    temperature: of predictions and targets, > 0.
    sharpening: the targets' temperature as a share of ``temperature``, > 0.
    iterations: of `sinkhorn`; 0 leaves the targets unbalanced.
    regularizer_weight: of the divergence from the prior.
    where: ``[batch]`` bool, images that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Scalar float32, the same on all shards; 0 if nothing takes part.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Assran et al., `Masked Siamese Networks for Label-Efficient Learning
    <https://arxiv.org/abs/2204.07141>`_, 2022, section 3.
  """
  prior = jnp.full(len(prototypes), 1 / len(prototypes), at_least_float32(prototypes).dtype)
  return pmsn(
    anchors,
    targets,
    prototypes,
    prior,
    temperature=temperature,
    sharpening=sharpening,
    iterations=iterations,
    regularizer_weight=regularizer_weight,
    where=where,
    axis_name=axis_name,
  )


def pmsn(
  anchors: jax.Array,
  targets: jax.Array,
  prototypes: jax.Array,
  prior: jax.Array | None = None,
  *,
  temperature: float | jax.Array = 0.1,
  sharpening: float | jax.Array = 0.25,
  iterations: int = 3,
  regularizer_weight: float | jax.Array = 1.0,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""`msn` for images whose classes are not equally frequent.

  .. math::
    \ell = \frac{1}{MB} \sum_{i,m} H(p_i^+, p_{im}) + \lambda D_{KL}(\bar p \,\|\, \pi),
    \qquad \bar p = \frac{1}{MB} \sum_{i,m} p_{im}

  where :math:`p = \operatorname{softmax}(\cos(z, c_k) / \tau)` and :math:`p_i^+` are the teacher's,
  sharpened and balanced. Balancing pulls targets to the uniform distribution whatever the prior;
  ``iterations=0`` leaves it out. lightly's ``PMSNLoss`` has the divergence the other way around.

  No gradient flows through the targets, neither to them nor to the prototypes.

  Args:
    anchors: embeddings of masked views, ``[views, batch, dim]``; normalised inside.
    targets: embeddings of the whole images by the teacher, ``[batch, dim]``; normalised inside.
    prototypes: learned, ``[prototypes, dim]``; normalised inside.
    prior: how often each prototype is to be used, ``[prototypes]``, positive, summing to 1; the
      power law :math:`\pi_k \propto k^{-1/4}` if absent.
    temperature: of predictions and targets, > 0.
    sharpening: the targets' temperature as a share of ``temperature``, > 0.
    iterations: of `sinkhorn`; 0 leaves the targets unbalanced.
    regularizer_weight: of the divergence from the prior.
    where: ``[batch]`` bool, images that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Scalar float32, the same on all shards; 0 if nothing takes part.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Assran et al., `The Hidden Uniform Cluster Prior in Self-Supervised Learning
    <https://arxiv.org/abs/2210.07277>`_, 2022.
  """
  shapes = {
    "anchors": jnp.shape(anchors),
    "targets": jnp.shape(targets),
    "prototypes": jnp.shape(prototypes),
  }
  ranks = [len(shape) for shape in shapes.values()]
  if (
    ranks != [3, 2, 2]
    or shapes["anchors"][1:] != shapes["targets"]
    or shapes["targets"][1] != shapes["prototypes"][1]
  ):
    raise ValueError(
      f"expected [views, batch, dim], [batch, dim] and [prototypes, dim], got {shapes}"
    )
  anchors, targets, prototypes = (
    l2_normalize(at_least_float32(x)) for x in (anchors, targets, prototypes)
  )
  if prior is None:
    prior = jnp.arange(1, len(prototypes) + 1, dtype=prototypes.dtype) ** -0.25
    prior /= jnp.sum(prior)
  elif jnp.shape(prior) != shapes["prototypes"][:1]:
    raise ValueError(
      f"expected a share of each prototype, {shapes['prototypes'][:1]}, got {jnp.shape(prior)}"
    )

  cosines = lambda z: jnp.matmul(z, prototypes.T, precision="highest")
  log_p = jax.nn.log_softmax(cosines(anchors) / temperature, -1)
  log_target = lax.stop_gradient(
    jax.nn.log_softmax(cosines(targets) / (temperature * sharpening), -1)
  )
  if iterations:
    balance = {"epsilon": 1.0, "iterations": iterations, "where": where, "axis_name": axis_name}
    target = sinkhorn(log_target, **balance)
  else:
    target = jnp.exp(log_target)
  entropy = -jnp.einsum("bk,vbk->b", target, log_p, precision="highest") / len(anchors)
  mean_p = batch_mean(jnp.mean(jnp.exp(log_p), 0), axis_name, where=where)
  # A prototype whose probability is rounded to 0 adds nothing; nor does its logarithm.
  log_mean = jnp.log(jnp.maximum(mean_p, jnp.finfo(mean_p.dtype).tiny))
  divergence = jnp.sum(mean_p * (log_mean - jnp.log(at_least_float32(prior))))
  return batch_mean(entropy, axis_name, where=where) + regularizer_weight * divergence


def obow(logits: jax.Array, targets: jax.Array) -> jax.Array:
  r"""Predicts an image's bag of visual words from a crop of it.

  .. math:: \ell_i = -\sum_k y_{ik} \log \operatorname{softmax}(\hat y_i)_k

  The authors' code subtracts the entropy of the targets, which changes no gradient. No gradient
  reaches the targets.

  Args:
    logits: predicted by the student from one crop, ``[batch, words]``.
    targets: bags of words of the whole image from `obow_targets`, ``[batch, words]``.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0.

  Raises:
    ValueError: if the shapes differ or are not rank 2.

  References:
    Gidaris et al., `OBoW: Online Bag-of-Visual-Words Generation for Self-Supervised Learning
    <https://arxiv.org/abs/2012.11552>`_, 2020, section 3.
  """
  check_same_shape(2, logits=logits, targets=targets)
  targets = lax.stop_gradient(at_least_float32(targets))
  return -jnp.sum(targets * jax.nn.log_softmax(at_least_float32(logits), -1), -1)


def obow_targets(
  features: jax.Array,
  vocabulary: jax.Array,
  distance: float | jax.Array,
  *,
  inverse_delta: float | jax.Array = 15.0,
) -> jax.Array:
  r"""An image's bag of visual words: how strongly each word occurs anywhere in it.

  .. math::
    y_k \propto \max_u \frac{\exp(-\delta^{-1} \lVert f_u - v_k \rVert^2 / \mu)}
      {\sum_{k'} \exp(-\delta^{-1} \lVert f_u - v_{k'} \rVert^2 / \mu)}, \qquad \sum_k y_k = 1

  No gradient flows through.

  Args:
    features: of each location by the teacher, ``[batch, locations, dim]``.
    vocabulary: visual words, ``[words, dim]``; the authors keep a queue of local features.
    distance: running mean :math:`\mu` from `update_word_distance`, > 0.
    inverse_delta: sharpness of the assignments.

  Returns:
    ``[batch, words]`` float32, rows that sum to 1.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Gidaris et al., `OBoW: Online Bag-of-Visual-Words Generation for Self-Supervised Learning
    <https://arxiv.org/abs/2012.11552>`_, 2020, section 3.
  """
  _, similarities = _compared_with_words(features, vocabulary)
  bag = jnp.max(jax.nn.softmax(inverse_delta / distance * similarities, -1), 1)
  return bag / jnp.sum(bag, -1, keepdims=True)


def update_word_distance(
  distance: float | jax.Array,
  features: jax.Array,
  vocabulary: jax.Array,
  *,
  momentum: float | jax.Array = 0.99,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  r"""Running mean of the squared distance from a feature to its nearest visual word.

  .. math::
    \mu \leftarrow m \mu + (1 - m) \operatorname{mean}_{i,u} \min_k \lVert f_{iu} - v_k \rVert^2

  The authors start at 0.5 and update before they take the targets. No gradient flows through.

  Args:
    distance: running mean so far.
    features: of each location by the teacher, ``[batch, locations, dim]``.
    vocabulary: visual words, ``[words, dim]``.
    momentum: weight of the past.
    where: ``[batch]`` bool, images that take part; all if absent.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    Scalar float32, the same on all shards; unchanged if nothing takes part.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Gidaris et al., `OBoW: Online Bag-of-Visual-Words Generation for Self-Supervised Learning
    <https://arxiv.org/abs/2012.11552>`_, 2020, section 3.
  """
  lengths, similarities = _compared_with_words(features, vocabulary)
  nearest = jnp.mean(jnp.maximum(lengths - jnp.max(similarities, -1), 0), -1)
  where = kept(where, len(nearest))
  some = batch_sum(jnp.sum(where), axis_name) > 0
  moved = momentum * distance + (1 - momentum) * batch_mean(nearest, axis_name, where=where)
  return lax.stop_gradient(jnp.where(some, moved, distance))


def _compared_with_words(features, vocabulary) -> tuple[jax.Array, jax.Array]:
  """Squared lengths of features, and what to subtract from them to get squared distances.

  That is ``[batch, locations]`` and ``[batch, locations, words]``, without gradient. Apart, they
  lose no digits where features are long and near to one another.
  """
  shapes = {"features": jnp.shape(features), "vocabulary": jnp.shape(vocabulary)}
  if [len(x) for x in shapes.values()] != [3, 2] or len({x[-1] for x in shapes.values()}) > 1:
    raise ValueError(f"expected [batch, locations, dim] and [words, dim], got {shapes}")
  features, vocabulary = (lax.stop_gradient(at_least_float32(x)) for x in (features, vocabulary))
  products = jnp.einsum("bud,kd->buk", features, vocabulary, precision="highest")
  return jnp.sum(features**2, -1), 2 * products - jnp.sum(vocabulary**2, -1)[None, None]
