"""Classifiers whose features stay comparable from one model to the next."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from repjax.arrays import cross_entropy, l2_normalize
from repjax.augment import to_float
from repjax.encoders import Features
from repjax.heads import d_simplex
from repjax.learners.learner import (
  Objective,
  apply_module,
  example_keys,
  init_module,
  labelled_mean,
)
from repjax.learners.spread import spread
from repjax.learners.teacher import Teacher
from repjax.losses import feature_cosine


def compatible(
  encoder: nn.Module,
  classes: int,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  dim: int | None = None,
  scale: float = 1.0,
  previous: Teacher | None = None,
  previous_dim: int | None = None,
  align: float = 1.0,
  turn: bool = False,
  classifier: jax.Array | None = None,
  influence: float = 1.0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of a classifier that may replace an earlier one without a new index.

  .. math:: \mathrm{CE}(y, s W z) + \lambda \big(1 - \cos(u_{1:k}, z^{\mathrm{old}})\big),
    \qquad u = Q z

  Four things make features of models comparable, and any of them can be left out:

  - a fixed classifier: without ``dim``, W is the regular simplex of ``classes`` corners, more than
    there are classes now, and features have ``classes - 1`` dimensions. A class then lies where
    every model puts it (d-simplex stationary representations);
  - features held to those of the model before, in their first k dimensions (with the simplex, CL2R;
    its code does so for examples from memory alone, here for all that have a label);
  - an orthogonal layer Q behind the features that the classifier sees, the exponential of a skew
    matrix: what is aligned is turned, not bent, and dimensions beyond k are free for what is new
    (OCA);
  - the cross entropy of the old classifier on the same k dimensions, at unit length, times
    ``influence`` (BCT).

  ``encode`` gives u as ``pooled``. Neither fixed nor aligned, it is a plain classifier with a
  linear layer for features: the independent model that these are compared with.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    classes: number of classes, with those reserved.
    augment: ``(key, image) -> image`` for one image in [0, 1].
    dim: of the features, whose classifier is then trained; absent for the simplex.
    scale: s, of the simplex's logits; its features are not normalised, as in the code of CL2R.
    previous: the model before, as state of this objective has it: ``params`` and ``rest``.
    previous_dim: k, the width of its features; ``dim`` if absent.
    align: lambda >= 0.
    turn: whether there is an orthogonal layer.
    classifier: ``[classes, k]``, the old classifier: its weights, or for classes that it does not
      know means of old features, which the code of BT^2 takes for all of them.
    influence: weight of that classifier's cross entropy, >= 0.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; ``batch["label"]`` is ``[batch]`` int32, and -1 leaves an example out. The
    previous model is part of its state and never changes. Metrics are ``accuracy``, ``apart`` (the
    alignment's loss) and those of `spread`.

  References:
    Biondi et al., `Stationary Representations: Optimally Approximating Compatibility and
    Implications for Improved Model Replacements <https://arxiv.org/abs/2405.02581>`_, 2024.
    Biondi et al., `CL2R: Compatible Lifelong Learning Representations
    <https://arxiv.org/abs/2211.09032>`_, 2022; ``train.py`` and ``model.py`` of
    https://github.com/NiccoBiondi/CompatibleLifelongRepresentation.
    Shen et al., `Towards Backward-Compatible Representation Learning
    <https://arxiv.org/abs/2003.11942>`_, 2020; ``trainers/bct_trainer.py`` of
    https://github.com/YifeiZhou02/BT-2.
    Ricci et al., `Backward-Compatible Aligned Representations via an Orthogonal Transformation
    Layer <https://arxiv.org/abs/2408.08793>`_, 2024, whose text was not at hand; the alignment by
    cosine is ours.
  """
  fixed = dim is None
  dim = classes - 1 if fixed else dim
  corners = d_simplex(classes).T if fixed else None
  layer = lambda dim: nn.Dense(dim, use_bias=False)
  head = nn.Dense(classes)
  kept = previous_dim or dim

  def init(key, batch):
    k_encoder, k_layer, k_head = jax.random.split(key, 3)
    image = normalize(to_float(batch["image"]))
    params, rest = init_module(encoder, k_encoder, image)
    pooled = encoder.apply({"params": params, **rest}, image).pooled
    params = {"encoder": params, "layer": layer(dim).init(k_layer, pooled)["params"]}
    if not fixed:
      params["head"] = head.init(k_head, jnp.zeros((1, dim)))["params"]
    if turn:
      params["turn"] = jnp.zeros((dim, dim))
    extra = {"rest": rest}
    if previous is not None:
      # A state is donated: whoever gave the model before keeps its buffers.
      extra["previous"] = jax.tree.map(jnp.copy, previous)
    return params, extra

  def features(params, rest, image, *, train=False):
    """Encoder's features, those that the classifier sees, and those that are compared."""
    out, rest = apply_module(encoder, params["encoder"], rest, image, train=train)
    width = params["layer"]["kernel"].shape[1]  # the model before may have another
    seen = layer(width).apply({"params": params["layer"]}, out.pooled).astype(jnp.float32)
    if "turn" not in params:
      return out, seen, seen, rest
    skew = params["turn"] - params["turn"].T
    return out, seen, seen @ jax.scipy.linalg.expm(skew), rest

  def loss(params, extra, batch, key):
    image, label = to_float(batch["image"]), batch["label"]
    keys = example_keys(key, len(image), axis_name=axis_name)
    image = normalize(jax.vmap(augment)(keys, image))
    _, seen, compared, rest = features(params, extra["rest"], image, train=True)
    if fixed:
      logits = scale * (seen @ corners)
    else:
      logits = head.apply({"params": params["head"]}, seen)
    total = cross_entropy(logits, label)
    apart = jnp.zeros(len(image))
    if previous is not None:
      before = extra["previous"]
      _, _, old, _ = features(before.params, before.rest, image)
      apart = feature_cosine(compared[:, :kept], lax.stop_gradient(old))
      total = total + align * apart
    if classifier is not None:
      old_logits = l2_normalize(compared[:, :kept]) @ jnp.asarray(classifier).T
      total = total + influence * cross_entropy(old_logits, label)
    mean = labelled_mean(label, axis_name=axis_name)
    metrics = {
      "accuracy": mean(jnp.argmax(logits, -1) == label),
      "apart": mean(apart),
      **spread(compared, axis_name=axis_name),
    }
    return mean(total), (extra | {"rest": rest}, metrics)

  def encode(params, extra, image):
    out, _, compared, _ = features(params, extra["rest"], normalize(to_float(image)))
    return Features(compared, out.tokens, out.layers)

  return Objective(init, loss, encode)
