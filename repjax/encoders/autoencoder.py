"""A small convolutional autoencoder whose layers can each be disturbed and rebuilt."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.encoders.features import Features


class Autoencoder(nn.Module):
  """Strided convolutions to a flat code, and back.

  Attributes:
    dim: width of the code, which goes through a tanh.
    channels: of the image.
    widths: channels of the convolutions, each of which halves the sides.
    kernel: side of their kernels.
    dtype: of the computation; parameters are float32.

  References:
    Dizaji et al., `Deep Clustering via Joint Convolutional Autoencoder Embedding and Relative
    Entropy Minimization <https://arxiv.org/abs/1704.06327>`_, 2017, section 4.1: two convolutions
    of 50 channels with leaky ReLU, and a tanh behind the code.
  """

  dim: int = 10
  channels: int = 1
  widths: Sequence[int] = (50, 50)
  kernel: int = 5
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    image: jax.Array,
    *,
    train: bool = False,
    disturb: Callable[[int, jax.Array], jax.Array] = lambda layer, x: x,
    decode: bool = False,
  ) -> Features | tuple[Features, tuple[jax.Array, ...]]:
    """Encodes images, and decodes them if asked.

    Args:
      image: ``[batch, height, width, channels]``, sides that the convolutions halve evenly.
      train: there is no difference.
      disturb: ``(layer, x) -> x``, what happens to the image (layer 0) and to the output of each
        convolution (1, 2, ...) before the next layer sees it.
      decode: whether the decoder is called.

    Returns:
      Features, ``pooled`` the code and ``layers`` the outputs of the convolutions; with ``decode``
      also what is rebuilt of the image and of each of ``layers``, in their shapes.

    Raises:
      ValueError: if the sides cannot be halved as often as there are convolutions.
    """
    del train
    if any(side % 2 ** len(self.widths) for side in image.shape[1:3]):
      raise ValueError(
        f"sides {image.shape[1:3]} cannot be halved {len(self.widths)} times; resize the images"
      )
    square, layers = (self.kernel, self.kernel), []
    x = disturb(0, image)
    for i, width in enumerate(self.widths):
      x = nn.leaky_relu(nn.Conv(width, square, 2, dtype=self.dtype, name=f"conv_{i}")(x))
      x = disturb(i + 1, x)
      layers.append(x)
    code = nn.tanh(nn.Dense(self.dim, dtype=self.dtype, name="code")(x.reshape(len(x), -1)))
    tokens = x.reshape(len(x), -1, x.shape[-1])
    features = Features(code, tokens, tuple(layers))
    if not decode and not self.is_initializing():
      return features
    y = nn.Dense(x[0].size, dtype=self.dtype, name="decode_code")(code).reshape(x.shape)
    rebuilt = [nn.leaky_relu(y)]
    for i, width in enumerate([*self.widths[-2::-1], self.channels]):
      y = nn.ConvTranspose(width, square, (2, 2), dtype=self.dtype, name=f"decode_conv_{i}")
      rebuilt.append(y(rebuilt[-1]))
      if i < len(self.widths) - 1:
        rebuilt[-1] = nn.leaky_relu(rebuilt[-1])
    return (features, tuple(reversed(rebuilt))) if decode else features
