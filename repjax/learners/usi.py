"""USI: one recipe for any backbone, labels beside what a fixed teacher says."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from repjax.arrays import cross_entropy
from repjax.augment import to_float
from repjax.learners.learner import (
  Objective,
  apply_module,
  example_keys,
  init_module,
  labelled_mean,
)
from repjax.learners.spread import spread
from repjax.learners.teacher import Teacher
from repjax.losses import soft_labels


def usi(
  encoder: nn.Module,
  classes: int,
  teacher_encoder: nn.Module,
  teacher: Teacher,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  alpha: float = 5.0,
  temperature: float = 1.0,
  average: float = 0.99996,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  normalize_teacher: Callable[[jax.Array], jax.Array] | None = None,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of a classifier that learns from labels and from a better classifier.

  .. math:: \ell = \operatorname{CE}(y, s) + \alpha \operatorname{KL}(t \,\|\, s)

  Nothing in it depends on the backbone; the paper trains all with AdamW, a cosine from 0.002 and
  decay 0.02, for 300 epochs of batches that RandAugment, mixup and cutmix have changed, for teacher
  and student alike. What mixes images with one another is not part of this.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`; the student.
    classes: number of classes.
    teacher_encoder: images to `Features`, any other.
    teacher: its variables: ``params`` has ``encoder`` and, a linear layer behind it, ``head``, and
      ``rest`` the encoder's other collections, as state of `supervised` does.
    augment: ``(key, image) -> image`` for one image in [0, 1]; teacher and student see the same.
    alpha: of the divergence, >= 0.
    temperature: of both softmaxes in it.
    average: share of the past in the moving average of the student's weights, by which ``encode``
      goes; 0 for none.
    normalize: last step before the student, in training and in ``encode``.
    normalize_teacher: last step before the teacher; ``normalize`` if absent.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; ``batch["label"]`` is ``[batch]`` int32, and of an example with -1 the teacher
    alone speaks. The teacher is part of its state. Metrics are both losses, ``accuracy`` on the
    augmented batch and those of `spread`.

  References:
    Ridnik et al., `Solving ImageNet: a Unified Scheme for Training any Backbone to Top Results
    <https://arxiv.org/abs/2204.03475>`_, 2022, section 2; ``train.py`` of
    https://github.com/Alibaba-MIIL/Solving_ImageNet.
  """
  head = nn.Dense(classes)
  before_teacher = normalize_teacher or normalize

  def init(key, batch):
    k_encoder, k_head = jax.random.split(key)
    image = normalize(to_float(batch["image"]))
    params, rest = init_module(encoder, k_encoder, image)
    features = encoder.apply({"params": params, **rest}, image)
    params = {"encoder": params, "head": head.init(k_head, features.pooled)["params"]}
    # A state is donated: no buffer may be in it twice, and whoever gave the teacher keeps theirs.
    copies = jax.tree.map(jnp.copy, {"average": params, "teacher": teacher})
    return params, {"rest": rest, **copies}

  def loss(params, extra, batch, key):
    image, label = to_float(batch["image"]), batch["label"]
    keys = example_keys(key, len(image), axis_name=axis_name)
    image = jax.vmap(augment)(keys, image)
    features, rest = apply_module(
      encoder, params["encoder"], extra["rest"], normalize(image), train=True
    )
    logits = head.apply({"params": params["head"]}, features.pooled).astype(jnp.float32)
    known = extra["teacher"]
    theirs, _ = apply_module(
      teacher_encoder, known.params["encoder"], known.rest, before_teacher(image)
    )
    said = head.apply({"params": known.params["head"]}, theirs.pooled)

    mean = labelled_mean(label, axis_name=axis_name)
    label_loss = mean(cross_entropy(logits, label))
    teacher_loss = jnp.mean(soft_labels(logits, said, temperature=temperature))
    metrics = {
      "label_loss": label_loss,
      "teacher_loss": teacher_loss,
      "accuracy": mean(jnp.argmax(logits, -1) == label),
      **spread(features.pooled, axis_name=axis_name),
    }
    return label_loss + alpha * teacher_loss, (extra | {"rest": rest}, metrics)

  def encode(params, extra, image):
    weights = extra["average"] if average else params
    return apply_module(encoder, weights["encoder"], extra["rest"], normalize(to_float(image)))[0]

  def after(params, extra):
    return extra | {"average": optax.incremental_update(params, extra["average"], 1 - average)}

  return Objective(init, loss, encode, after)
