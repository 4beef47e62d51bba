"""FCPL: descriptors of copies, comparable from one model to the next."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.arrays import at_least_float32, l2_normalize
from repjax.augment import to_float
from repjax.learners.learner import (
  Objective,
  apply_module,
  example_keys,
  init_module,
  labelled_mean,
)
from repjax.learners.spread import spread
from repjax.losses import cosface, feature_cosine
from repjax.losses.layout import gather


def fcpl(
  encoder: nn.Module,
  classes: int,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  margin: float = 0.6,
  scale: float = 64.0,
  hold: float = 100.0,
  pairs: float = 1.0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of FCPL's three stages; what a batch holds says which.

  .. math::
    \ell = \mathrm{CosFace}(f(\tilde x), y)
      + \lambda \lVert \hat f(x) - \hat f_0(x) \rVert^2
      + \mu \Big(\lVert \hat q - \hat r \rVert^2
        - \tfrac12 \min_{q' \ne q} \lVert \hat q - \hat q' \rVert^2
        - \tfrac12 \min_{r' \ne r} \lVert \hat r - \hat r' \rVert^2\Big)

  The first stage has the first term alone: every image is a class of its own, told from its copies
  :math:`\tilde x`. The second trains other models, whose features of images as they are shall be
  those of the first model, :math:`f_0`: then all can be compared and their unit features averaged.
  The third goes on (`repjax.learners.start_from`) with pairs of a query and its reference that are
  known to be copies, each side apart from the nearest of its kind in the whole batch.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`; ``pooled`` are
      the descriptors.
    classes: number of images that are classes.
    augment: ``(key, image) -> image`` for one image in [0, 1]: makes a copy.
    margin: of the cosine, see `repjax.losses.cosface`.
    scale: of the cosine, > 0.
    hold: lambda >= 0.
    pairs: mu >= 0.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. ``batch["label"]`` is ``[batch]`` int32, which image it is, and -1 leaves it out
    of the first term. With ``batch["support"]``, ``[batch, dim]``, the first model's descriptors of
    the images, there is the second; with images ``batch["query"]`` and ``batch["reference"]`` and
    ``batch["source"]``, ``[batch, 2]`` int32, of which query and which reference they are, the
    third; rows of one source do not count as apart. Metrics are ``told``, ``held`` and ``paired``,
    the three terms, and those of `spread`.

  References:
    Wang et al., `Feature-compatible Progressive Learning for Video Copy Detection
    <https://arxiv.org/abs/2304.10305>`_, 2023, whose text was not at hand beyond its abstract;
    ``Training/Stage_23/dg/trainers_cos_ema_tune_gt_ng_cls.py`` of
    https://github.com/WangWenhao0716/VSC-DescriptorTrack-Submission is followed, which has a second
    classifier on the features before the descriptor, and averages weights.
  """

  def init(key, batch):
    k_encoder, k_centers = jax.random.split(key)
    image = normalize(to_float(batch["image"]))
    params, rest = init_module(encoder, k_encoder, image)
    dim = encoder.apply({"params": params, **rest}, image).pooled.shape[-1]
    centers = jax.random.normal(k_centers, (classes, dim))
    return {"encoder": params, "centers": centers}, {"rest": rest}

  def describe(params, rest, image):
    out, rest = apply_module(encoder, params["encoder"], rest, normalize(image), train=True)
    return at_least_float32(out.pooled), rest

  def loss(params, extra, batch, key):
    image, label = to_float(batch["image"]), batch["label"]
    keys = example_keys(key, len(image), axis_name=axis_name)
    copies, rest = describe(params, extra["rest"], jax.vmap(augment)(keys, image))
    told = cosface(copies, label, params["centers"], margin=margin, scale=scale)
    terms = {"told": labelled_mean(label, axis_name=axis_name)(told)}
    value = terms["told"]
    if "support" in batch:
      whole, rest = describe(params, rest, image)
      # Of unit vectors the squared distance is twice this.
      terms["held"] = 2 * jnp.mean(feature_cosine(whole, batch["support"]))
      value = value + hold * terms["held"]
    if "query" in batch:
      sides = []
      for name in ("query", "reference"):
        side, rest = describe(params, rest, to_float(batch[name]))
        sides.append(l2_normalize(side))
      near = [_nearest(x, batch["source"][:, i], axis_name) for i, x in enumerate(sides)]
      terms["paired"] = jnp.mean(jnp.sum((sides[0] - sides[1]) ** 2, 1) - sum(near) / 2)
      value = value + pairs * terms["paired"]
    return value, ({"rest": rest}, terms | spread(copies, axis_name=axis_name))

  def encode(params, extra, image):
    image = normalize(to_float(image))
    return apply_module(encoder, params["encoder"], extra["rest"], image)[0]

  return Objective(init, loss, encode)


def _nearest(z, source, axis_name) -> jax.Array:
  """Squared distance to the nearest row of another source in the whole batch; 0 without one."""
  every, sources = gather((z, source), axis_name)
  other = source[:, None] != sources[None]
  distance = 2 - 2 * jnp.matmul(z, every.T, precision="highest")
  nearest = jnp.min(jnp.where(other, distance, jnp.inf), 1)
  return jnp.where(jnp.any(other, 1), nearest, 0)
