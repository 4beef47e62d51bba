"""SIE: a half that stays, and a half that moves as a hypernetwork of the transformation says."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax import losses
from repjax.arrays import at_least_float32
from repjax.augment import to_float
from repjax.encoders import Features
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


class Hypernetwork(nn.Module):
  r"""A linear map that depends on the transformation: :math:`\hat z' = \rho(g) z`.

  The entries of :math:`\rho(g)` are an MLP of :math:`g`. A predictor that could ignore
  :math:`g` would let what it predicts become invariant. The paper's code has a bias in the
  hypernetwork as an option; it is there always here, so that :math:`g = 0` may be the identity.

  Attributes:
    hidden: widths of the MLP's hidden layers; none in the paper's command, a linear map of ``g``.

  References:
    Garrido et al., `Self-supervised learning of Split Invariant Equivariant representations
    <https://arxiv.org/abs/2302.10283>`_, 2023, section 4.
  """

  hidden: Sequence[int] = ()

  @nn.compact
  def __call__(self, z: jax.Array, g: jax.Array) -> jax.Array:
    """Predicts.

    Args:
      z: ``[batch, dim]``.
      g: ``[batch, parameters]``, the transformation.

    Returns:
      ``[batch, dim]``.
    """
    dim = z.shape[-1]
    for i, width in enumerate(self.hidden):
      g = nn.relu(nn.Dense(width, name=f"dense_{i}")(g))
    # Each example has a matrix of its own, whose products are to be as large as z.
    small = nn.initializers.variance_scaling(1 / dim, "fan_in", "normal")
    entries = nn.Dense(dim * dim, kernel_init=small, name="entries")(g)
    return jnp.einsum("bij,bj->bi", entries.reshape(-1, dim, dim), z)


class Split(nn.Module):
  """An encoder whose pooled features are two parts, and what is put behind each.

  Attributes:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    invariant_dim: how many of the pooled features, the first, are the invariant part.
    invariant_projector: ``[batch, invariant_dim] -> [batch, any]``.
    equivariant_projector: ``[batch, dim - invariant_dim] -> [batch, any]``.
    predictor: ``(z, g) -> z'`` on the equivariant projection.
  """

  encoder: nn.Module
  invariant_dim: int
  invariant_projector: nn.Module
  equivariant_projector: nn.Module
  predictor: nn.Module

  def __call__(
    self, image: jax.Array, *, train: bool = False
  ) -> tuple[Features, jax.Array, jax.Array]:
    """Encodes and projects.

    Args:
      image: ``[batch, height, width, channels]``, normalised.
      train: whether batch norm uses the batch's statistics.

    Returns:
      The features, and the projections of their invariant and their equivariant part.
    """
    features = self.encoder(image, train=train)
    stays, moves = jnp.split(features.pooled, [self.invariant_dim], -1)
    return (
      features,
      at_least_float32(self.invariant_projector(stays, train=train)),
      at_least_float32(self.equivariant_projector(moves, train=train)),
    )

  def predict(self, z: jax.Array, g: jax.Array, *, train: bool = False) -> jax.Array:
    """Moves an equivariant projection.

    Args:
      z: ``[batch, dim]``.
      g: ``[batch, parameters]``, the transformation from the view of ``z`` to the other.
      train: not used.

    Returns:
      ``[batch, dim]``.
    """
    del train
    return self.predictor(z, g)

  def everything(self, image, g):  # what initialisation calls
    """Projection and prediction in one call, see there."""
    _, _, moves = self(image)
    return self.predict(moves, g)


def sie(
  network: Split,
  augment: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
  between: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  invariance_weight: float = 10.0,
  equivariance_weight: float = 4.5,
  variance_weight: float = 10.0,
  covariance_weight: float = 1.0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of SIE: invariant and equivariant features side by side.

  Args:
    network: encoder, projectors of the two parts, predictor; `Hypernetwork` in the paper.
    augment: ``(key, image) -> (image, parameters)`` for one image in [0, 1], such as
      `repjax.augment.turn_and_tint`; drawn twice per example.
    between: ``(parameters_1, parameters_2) -> g``, ``[batch, parameters]`` each, the
      transformation that leads from the first view to the second.
    invariance_weight: of the distance of invariant parts.
    equivariance_weight: of the error of the prediction.
    variance_weight: of what standard deviations lack to 1.
    covariance_weight: of what dimensions have in common.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; the first ``network.invariant_dim`` pooled features are the invariant part. Its
    metrics are those of `spread`.

  References:
    Garrido et al., `Self-supervised learning of Split Invariant Equivariant representations
    <https://arxiv.org/abs/2302.10283>`_, 2023, section 4; we follow the `authors' code
    <https://github.com/facebookresearch/SIE>`_.
  """

  def draw(batch, key, axis_name=axis_name):
    image = to_float(batch["image"])
    keys = [example_keys(k, len(image), axis_name=axis_name) for k in jax.random.split(key)]
    (view_1, p_1), (view_2, p_2) = [jax.vmap(augment)(k, image) for k in keys]
    return normalize(join_views([view_1, view_2])), between(p_1, p_2)

  def init(key, batch):
    k_network, k_draw = jax.random.split(key)
    image, g = draw(batch, k_draw, None)  # no axis is mapped yet
    return init_module(network, k_network, image[: len(g)], g, method="everything")

  def loss(params, extra, batch, key):
    image, g = draw(batch, key)
    (features, stays, moves), extra = apply_module(network, params, extra, image, train=True)
    (i_1, i_2), (e_1, e_2) = part_views(stays, 2), part_views(moves, 2)
    prediction, _ = apply_module(network, params, extra, e_1, g, method="predict")
    value = losses.sie(
      i_1,
      i_2,
      e_1,
      e_2,
      prediction,
      invariance_weight=invariance_weight,
      equivariance_weight=equivariance_weight,
      variance_weight=variance_weight,
      covariance_weight=covariance_weight,
      axis_name=axis_name,
    )
    return value, (extra, spread(part_views(features.pooled, 2)[0], axis_name=axis_name))

  def encode(params, extra, image):
    return encode_with(network.encoder, params, extra, normalize(to_float(image)))

  return Objective(init, loss, encode)
