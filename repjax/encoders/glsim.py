"""GLSim: a ViT that looks twice, at the whole image and at the patches most like it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from repjax.arrays import at_least_float32, l2_normalize
from repjax.encoders.features import Features
from repjax.encoders.positions import Grid, pair
from repjax.encoders.transformer import Block, norm
from repjax.encoders.vit import TokensIn, ViT


def global_local_similarity(whole: jax.Array, patches: jax.Array) -> jax.Array:
  """Cosine of each patch with what stands for the whole image.

  Args:
    whole: ``[batch, dim]``, the class token after the last layer's norm.
    patches: ``[batch, patches, dim]``, the patches after it.

  Returns:
    ``[batch, patches]`` in [-1, 1], at least float32.

  References:
    Rios et al., `Global-Local Similarity for Efficient Fine-Grained Image Recognition with Vision
    Transformers <https://arxiv.org/abs/2407.12891>`_, 2024, section 3.
  """
  unit = lambda x: l2_normalize(at_least_float32(x))
  return jnp.einsum("bd,bnd->bn", unit(whole), unit(patches))


def box_of_best(saliency: jax.Array, grid: Grid, top: int) -> jax.Array:
  """The box from the first to the last row and column of the most salient patches.

  As in the official code it ends where the last row and column begin, unless nothing were left.

  Args:
    saliency: ``[batch, rows * columns]``, in raster order.
    grid: rows and columns.
    top: number of patches.

  Returns:
    ``[batch, 4]`` int32: first row, first column, and the ends of both, in patches.

  Raises:
    ValueError: if the grid does not have these patches, or not as many as ``top``.

  References:
    Rios et al., 2024, as above; official code, github.com/arkel23/GLSim.
  """
  count = saliency.shape[1]
  if count != grid[0] * grid[1]:
    raise ValueError(
      f"{count} patches are not a grid of {grid[0]}x{grid[1]}; keep all of them, without class "
      "token and registers"
    )
  if not 1 <= top <= count:
    raise ValueError(f"top={top} is not one of the numbers of patches from 1 to {count}")
  best = lax.top_k(saliency, top)[1]
  places = jnp.stack([best // grid[1], best % grid[1]], -1)
  start = jnp.min(places, 1)
  return jnp.concatenate([start, jnp.maximum(jnp.max(places, 1), start + 1)], 1)


def zoom(image: jax.Array, box: jax.Array) -> jax.Array:
  """Enlarges a box of each image to the image's size, bilinearly, corner pixels to corners.

  Args:
    image: ``[batch, height, width, channels]``, floating.
    box: ``[batch, 4]`` int32: first row, first column, and the ends of both, in pixels.

  Returns:
    Same shape and dtype as ``image``.
  """

  def taps(start, end, size):
    # [batch, size, size]: how much of each pixel goes into each of the enlarged ones.
    place = jnp.arange(size, dtype=jnp.float32)
    steps = place * jnp.float32(1 / max(size - 1, 1))
    source = start[:, None] + steps[None] * (end - 1 - start)[:, None]
    return jnp.maximum(1 - jnp.abs(source[:, :, None] - place[None, None]), 0)

  rows = taps(box[:, 0], box[:, 2], image.shape[1])
  columns = taps(box[:, 1], box[:, 3], image.shape[2])
  wide = jnp.einsum("byh,bhwc->bywc", rows, at_least_float32(image))
  return jnp.einsum("bxw,bywc->byxc", columns, wide).astype(image.dtype)


def box_most_alike(features: Features, grid: Grid, top: int) -> jax.Array:
  """Where GLSim looks closer: the box of the patches that are most like the class token.

  Args:
    features: of a ViT that pools its class token.
    grid: rows and columns of the patches.
    top: number of patches.

  Returns:
    ``[batch, 4]`` int32, as `box_of_best` has it.
  """
  return box_of_best(global_local_similarity(features.pooled, features.tokens), grid, top)


class GLSim(nn.Module):
  """Encodes an image and a crop of it by the same ViT, and mixes their class tokens.

  The crop is enlarged to the image's size; no gradient flows through its choice. The ViT's
  parameters are under ``vit``.

  Attributes:
    vit: with ``pool="cls"``.
    top: number of patches whose box is cropped.
    depth: number of blocks that mix the class tokens, as wide as the ViT's.
    look: ``(features, grid, top) -> box [batch, 4]`` in patches, what is cropped.

  References:
    Rios et al., `Global-Local Similarity for Efficient Fine-Grained Image Recognition with Vision
    Transformers <https://arxiv.org/abs/2407.12891>`_, 2024, section 3, figure 3; official code,
    github.com/arkel23/GLSim.
  """

  vit: ViT
  top: int = 8
  depth: int = 1
  look: Callable[[Features, Grid, int], jax.Array] = box_most_alike

  @nn.compact
  def __call__(
    self, image: jax.Array, *, train: bool = False, tokens_in: TokensIn | None = None
  ) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: as for the ViT.
      tokens_in: as for the ViT, of the image and then of the crop; patches must not change in
        number.

    Returns:
      Features; ``pooled`` is the image's class token after the mixing blocks and their norm,
      ``tokens`` and ``layers`` are the ViT's of the image.

    Raises:
      ValueError: if the ViT has no class token to pool, or fewer patches than ``top``.
    """
    if self.vit.pool != "cls":
      raise ValueError(f"GLSim compares with a class token: set pool='cls', got {self.vit.pool!r}")
    vit, patch = self.vit, pair(self.vit.patch_size)
    features = vit(image, train=train, tokens_in=tokens_in)
    grid = (image.shape[1] // patch[0], image.shape[2] // patch[1])
    box = self.look(lax.stop_gradient(features), grid, self.top)
    crop = zoom(image, box * jnp.asarray(2 * patch)[None])
    closer = vit(crop, train=train, tokens_in=tokens_in)
    x = jnp.stack([features.pooled, closer.pooled], 1)
    for i in range(self.depth):
      mlp_dim = vit.mlp_dim or int(vit.mlp_ratio * vit.dim)
      x = Block(vit.heads, mlp_dim, vit.dtype, vit.attention, name=f"mix_{i}")(x)
    return features._replace(pooled=norm(vit.dtype, "norm")(x)[:, 0])
