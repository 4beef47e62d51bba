"""A transformer over the patches of all frames of a clip."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.encoders.features import Features
from repjax.encoders.positions import pair, patchify, sincos_2d
from repjax.encoders.transformer import Block, Implementation, dense, norm
from repjax.encoders.vit import TokensIn


class VideoTransformer(nn.Module):
  """Patches of single frames, then pre-norm blocks in which all attend to all.

  Attributes:
    patch_size: side of a patch in pixels, or (height, width); a patch is of one frame, so that it
      has a counterpart in an image model.
    dim: width.
    depth: number of blocks.
    heads: attention heads; divides ``dim``.
    frames: how many a clip has; each has a learned vector beside the patches' fixed positions.
    mlp_ratio: width of the feed-forward layers over ``dim``.
    dtype: of the computation.
    attention: implementation of the attention.

  References:
    Arnab et al., `ViViT: A Video Vision Transformer <https://arxiv.org/abs/2103.15691>`_, 2021,
    section 3.2, model 1.
    Li et al., `Unmasked Teacher: Towards Training-Efficient Video Foundation Models
    <https://arxiv.org/abs/2303.16058>`_, 2023, section 3.
  """

  patch_size: int | tuple[int, int]
  dim: int
  depth: int
  heads: int
  frames: int
  mlp_ratio: float = 4
  dtype: DTypeLike = jnp.float32
  attention: Implementation = "auto"

  @nn.compact
  def __call__(
    self,
    video: jax.Array,
    *,
    train: bool = False,
    keep: jax.Array | None = None,
    tokens_in: TokensIn | None = None,
  ) -> Features:
    """Encodes clips.

    Args:
      video: ``[batch, frames, height, width, channels]``, floating.
      train: without effect; every encoder takes it.
      keep: ``[batch, kept]`` int32, the patches that go in, numbered frame after frame, each in
        raster order; all if absent.
      tokens_in: ``(layer, [batch, n, dim]) -> [batch, m, dim]``, called before each block, such as
        to leave the medoids of segments (`repjax.select.in_segments`).

    Returns:
      Features; ``tokens`` in the order of ``keep``, ``pooled`` their mean.

    Raises:
      ValueError: if the clip has another number of frames.
    """
    del train
    if video.ndim != 5 or video.shape[1] != self.frames:
      raise ValueError(
        f"expected video [batch, {self.frames}, height, width, channels], got {video.shape}"
      )
    patch = pair(self.patch_size)
    grid = (video.shape[2] // patch[0], video.shape[3] // patch[1])
    x = patchify(video.reshape(-1, *video.shape[2:]), patch)
    x = dense(self.dim, self.dtype, "patch")(x).reshape(len(video), -1, self.dim)
    time = self.param("frames", nn.initializers.normal(0.02), (self.frames, self.dim))
    positions = jnp.asarray(sincos_2d(grid, self.dim))[None] + time[:, None]
    x = x + positions.reshape(1, -1, self.dim).astype(self.dtype)
    if keep is not None:
      x = jnp.take_along_axis(x, keep[..., None], 1)
    layers = []
    for i in range(self.depth):
      mlp_dim = int(self.mlp_ratio * self.dim)
      x = x if tokens_in is None else tokens_in(i, x)
      x = Block(self.heads, mlp_dim, self.dtype, self.attention, name=f"block_{i}")(x)
      layers.append(x)
    tokens = norm(self.dtype, "norm")(x)
    return Features(jnp.mean(tokens, 1), tokens, tuple(layers))
