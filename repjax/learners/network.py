"""The net that a self-supervised loss looks at: an encoder and the heads behind it."""

from typing import Any, NamedTuple

import jax
from flax import linen as nn

from repjax.encoders import Features
from repjax.learners.learner import Tree, apply_module


class Embedding(NamedTuple):
  """What a network makes of a batch of images.

  Attributes:
    features: what stays after training.
    projected: ``[batch, proj]``, of the pooled features; they themselves without a projector.
    predicted: ``[batch, out]``, of ``projected``; that itself without a predictor.
    patches: ``[batch, tokens, proj]``, of the tokens; nothing without a patch projector.
  """

  features: Features
  projected: jax.Array
  predicted: jax.Array
  patches: jax.Array | None


class Network(nn.Module):
  """An encoder and its heads, whose parameters go by the names of these fields.

  Attributes:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    projector: ``[batch, dim] -> [batch, proj]`` on pooled features, if any.
    predictor: ``[batch, proj] -> [batch, out]`` on projections, if any; a teacher has none.
    patch_projector: ``[batch, tokens, dim] -> [batch, tokens, proj]`` on tokens, if any.
  """

  encoder: nn.Module
  projector: nn.Module | None = None
  predictor: nn.Module | None = None
  patch_projector: nn.Module | None = None

  def __call__(
    self, image: jax.Array, *, train: bool = False, predict: bool = True, **options: Any
  ) -> Embedding:
    """Encodes and projects.

    Args:
      image: ``[batch, height, width, channels]``, normalised.
      train: whether batch norm uses the batch's statistics.
      predict: whether the predictor is called.
      **options: for the encoder, such as ``mask``.

    Returns:
      The embedding.
    """
    features = self.encoder(image, train=train, **options)
    z = features.pooled if self.projector is None else self.projector(features.pooled, train=train)
    p = self.predictor(z, train=train) if predict and self.predictor is not None else z
    patches = None
    if self.patch_projector is not None:
      patches = self.patch_projector(features.tokens, train=train)
    return Embedding(features, z, p, patches)


def encode_with(encoder: nn.Module, params: Tree, rest: Tree, image: jax.Array) -> Features:
  """Runs the encoder of a `Network` in evaluation mode.

  Args:
    encoder: that of the network.
    params: the network's parameters.
    rest: the network's other collections.
    image: ``[batch, height, width, channels]``, normalised.

  Returns:
    The features.
  """
  own = {name: tree["encoder"] for name, tree in rest.items() if "encoder" in tree}
  return apply_module(encoder, params.get("encoder", {}), own, image)[0]
