"""Feature synthesis: draw an image again with what tells little changed, and ignore the change."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from repjax.arrays import at_least_float32
from repjax.augment import to_float
from repjax.learners.learner import (
  Objective,
  apply_module,
  example_keys,
  init_module,
  join_views,
  part_views,
)
from repjax.learners.network import encode_with
from repjax.learners.spread import spread
from repjax.losses import nt_xent
from repjax.losses.layout import batch_mean


def feature_synthesis(
  encoder: nn.Module,
  decoder: nn.Module,
  projector: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  share: float = 0.3,
  strength: float = 1.0,
  reconstruction_weight: float = 1.0,
  synthesis_weight: float = 1.0,
  temperature: float = 0.2,
  at_random: bool = False,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds a contrastive objective with pairs drawn from perturbed features.

  .. math:: L = L_C + \alpha L_R + \nu L_{C_p}

  :math:`L_C` is NT-Xent of two views. A decoder draws each view from its features, :math:`L_R` is
  its squared error. Dimensions of a view's features that tell little are the ``share`` of them with
  the least variance over the batch, and the ``share`` with the least weight for that image by
  Grad-CAM, :math:`|f_d \, \partial L_C / \partial f_d|`. The decoder draws the first view once from
  its features and once with noise on those dimensions; :math:`L_{C_p}` is NT-Xent of these two
  images. They are data: no gradient reaches what drew them.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    decoder: ``[batch, dim] -> [batch, height, width, channels]`` of a view, such as `PixelDecoder`.
    projector: ``[batch, dim] -> [batch, proj]``, without state; dropped after training.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn twice per example.
    share: of the dimensions, by either measure, in [0, 1].
    strength: deviation of the noise, in mean deviations of a feature.
    reconstruction_weight: :math:`\alpha`.
    synthesis_weight: :math:`\nu`.
    temperature: of both contrasts, > 0.
    at_random: perturb as many dimensions as by the two measures, chosen at random for each image;
      what the paper's choice is to be compared with.
    normalize: last step before the encoder, in training and in ``encode``; of what is drawn too.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. Its metrics are the three terms, ``perturbed``, the share of dimensions that
    were, and those of `spread`.

  References:
    Wang et al., `On Learning Discriminative Features from Synthesized Data for Self-Supervised
    Fine-Grained Visual Recognition <https://arxiv.org/abs/2407.14676>`_, 2024, section 3. The
    paper perturbs features of a map; here they are pooled, and the noise is Gaussian.
  """

  def init(key, batch):
    k_encoder, k_decoder, k_projector, k_view = jax.random.split(key, 4)
    image = to_float(batch["image"])
    view = normalize(jax.vmap(augment)(jax.random.split(k_view, len(image)), image))
    params, rest = init_module(encoder, k_encoder, view)
    pooled = encoder.apply({"params": params, **rest}, view).pooled
    return {
      "encoder": params,
      "decoder": decoder.init(k_decoder, pooled)["params"],
      "projector": projector.init(k_projector, pooled)["params"],
    }, {name: {"encoder": tree} for name, tree in rest.items()}

  def encode_views(params, extra, views):
    own = {name: tree["encoder"] for name, tree in extra.items()}
    features, own = apply_module(encoder, params["encoder"], own, join_views(views), train=True)
    extra = {name: {"encoder": tree} for name, tree in own.items()}
    return part_views(at_least_float32(features.pooled), len(views)), extra

  def contrast(params, f_1, f_2):
    project = lambda f: projector.apply({"params": params["projector"]}, f, train=True)
    return jnp.mean(
      nt_xent(project(f_1), project(f_2), temperature=temperature, axis_name=axis_name)
    )

  def draw(params, features):
    return decoder.apply({"params": params["decoder"]}, features, train=True)

  def tells_little(f, gradient, keys):
    """Which dimensions of which image, ``[batch, dim]`` bool, and the deviation of a feature."""
    mean = batch_mean(f, axis_name)
    variance = batch_mean(jnp.square(f - mean[None]), axis_name)[None]
    count = round(share * f.shape[-1])
    # Ranks, so that of equals just so many are taken as are wanted.
    least = lambda x: jnp.argsort(jnp.argsort(x, -1), -1) < count
    little = least(jnp.broadcast_to(variance, f.shape)) | least(jnp.abs(f * gradient))
    if at_random:
      shuffled = jax.vmap(lambda k: jax.random.permutation(k, f.shape[-1]))(keys)
      little = shuffled < jnp.sum(little, -1, keepdims=True)
    return little, jnp.mean(jnp.sqrt(variance))

  def loss(params, extra, batch, key):
    image = to_float(batch["image"])
    k_1, k_2, k_noise, k_random = (
      example_keys(k, len(image), axis_name=axis_name) for k in jax.random.split(key, 4)
    )
    views = [normalize(jax.vmap(augment)(k, image)) for k in (k_1, k_2)]
    (f_1, f_2), extra = encode_views(params, extra, views)
    of_views, back = jax.vjp(lambda f: contrast(params, f, f_2), f_1)
    reconstruction = jnp.mean(jnp.square(draw(params, f_1) - views[0]))

    frozen, fixed = lax.stop_gradient((params, f_1))
    (gradient,) = lax.stop_gradient(back(jnp.ones_like(of_views)))
    little, deviation = tells_little(fixed, gradient, k_random)
    noise = jax.vmap(lambda k: jax.random.normal(k, fixed.shape[1:]))(k_noise)
    changed = fixed + jnp.where(little, strength * deviation * noise, 0)
    drawn = [draw(frozen, f) for f in (fixed, changed)]
    pair, extra = encode_views(params, extra, drawn)
    synthesis = contrast(params, *pair)

    value = of_views + reconstruction_weight * reconstruction + synthesis_weight * synthesis
    metrics = {
      "contrast": of_views,
      "reconstruction": reconstruction,
      "synthesis": synthesis,
      "perturbed": jnp.mean(little),
      **spread(f_1, axis_name=axis_name),
    }
    return value, (extra, metrics)

  def encode(params, extra, image):
    return encode_with(encoder, params, extra, normalize(to_float(image)))

  return Objective(init, loss, encode)
