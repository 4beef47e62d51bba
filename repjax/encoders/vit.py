"""Vision transformer: patches in, features at every layer out."""

import functools
import math
import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.encoders.features import Features
from repjax.encoders.positions import (
  Grid,
  Rotation,
  check_divisible,
  interpolate,
  mixed_frequencies,
  pair,
  patchify,
  rotary_2d,
  rotary_mixed,
  sincos_2d,
)
from repjax.encoders.stages import check_image
from repjax.encoders.transformer import (
  Activation,
  AttentionPool,
  Between,
  Block,
  Implementation,
  check_heads,
  dense,
  gelu,
  norm,
)

TokensIn = Callable[[int, jax.Array], jax.Array]
Reduce = Callable[[int, Between], Between]

_token_init = nn.initializers.normal(0.02)


class ConvStem(nn.Module):
  """A few strided 3x3 convolutions and a 1x1 in place of one large patch.

  Widths double with each stride up to ``dim``. Normalised over channels rather than over the batch,
  so that it has no running statistics. Neighbouring patches see each other.

  Attributes:
    dim: features per patch.
    stride: patch size, a power of 2.
    dtype: of the computation.

  References:
    Xiao et al., `Early Convolutions Help Transformers See Better
    <https://arxiv.org/abs/2106.14881>`_, 2021, section 3.
  """

  dim: int
  stride: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array) -> jax.Array:
    """Maps ``[batch, height, width, channels]`` to ``[batch, rows, columns, dim]``."""
    halvings = self.stride.bit_length() - 1
    strides = [1] * (2 - halvings) + [2] * halvings
    x = image.astype(self.dtype)
    for i, stride in enumerate(strides):
      width = max(self.dim // 2 ** (len(strides) - 1 - i), 1)
      x = nn.Conv(
        width, (3, 3), stride, 1, use_bias=False, dtype=self.dtype, name=f"conv_{i}",
        kernel_init=nn.initializers.he_normal(),
      )(x)  # fmt: skip
      x = nn.relu(norm(self.dtype, f"norm_{i}")(x))
    return dense(self.dim, self.dtype, "out")(x)


class ViT(nn.Module):
  """Vision transformer with pre-norm blocks.

  Parameters are float32 whatever the compute dtype. Blocks are named ``block_0`` and on, or live
  stacked under ``blocks`` with ``scan`` (see `stack_blocks`).

  Attributes:
    patch_size: side of a patch in pixels, or (height, width).
    dim: width.
    depth: number of blocks.
    heads: attention heads; divides ``dim``.
    mlp_dim: width of the feed-forward layers; ``mlp_ratio * dim`` if absent.
    mlp_ratio: see ``mlp_dim``.
    pool: ``mean`` of the normed patch tokens, the normed ``cls`` token, or ``attention`` over the
      normed patch tokens (`AttentionPool`).
    pool_size: heads and width of the feed-forward layer of attention pooling; those of the blocks
      if absent.
    pool_prefix: whether it looks at class token and registers too.
    class_token: whether there is one; if absent, only for ``pool="cls"``.
    distillation_token: whether a second token follows it, with a position of its own;
      ``pool="cls"`` is then the mean of both, so that one linear layer on it is DeiT's mean of two
      heads.
    registers: number of extra learned tokens (Darcet et al., 2023); they get no positions.
    positions: ``sincos``, fixed, none for the class token; ``learned``, one for it too;
      ``rotary``, in every block, for patches alone; ``relative``, a learned bias of every block's
      scores (`relative_offsets`), for images of one size.
    rotary: ``(grid, head_dim) -> sines and cosines`` such as `rotary_axial`, or ``mixed``, learned
      frequencies of each block and head (`rotary_mixed`); if absent, `rotary_2d` where positions
      are ``rotary`` and none where they are others, which may be had besides.
    class_position: whether learned positions have one for the class token.
    image_size: side, or (height, width), that learned positions are stored for; images of
      another size get them interpolated. If absent, that of the image, and other sizes are refused.
    stem: ``patch``, one linear map a patch, or ``conv`` (`ConvStem`).
    patch_bias: whether the linear map of patches has one.
    embedding_norm: whether tokens are normed before the first block, as in CLIP.
    final_norm: whether they are behind the last.
    norm_after_pool: whether the final norm is taken of the pooled vector alone, as in BEiT and
      fine-tuned MAE; ``tokens`` are then not normed.
    projection: width of a last linear map of the pooled vector, as in CLIP; none if absent.
    activation: of the feed-forward layers.
    gated: whether they are gated (SwiGLU with `jax.nn.silu`).
    layer_scale: what learned scales of residual branches start from; none if absent.
    attention_norm: whether there is a norm before the last layer of each attention.
    mlp_norm: whether there is one before the last of each feed-forward layer, as in EVA-02.
    epsilon: of the norms.
    scan: compile one block and loop, rather than all of them.
    remat: recompute each block in the backward pass rather than store its activations.
    dtype: of the computation.
    attention: ``xla``, ``cudnn``, or ``auto``: cuDNN on a GPU in 16 bits, XLA elsewhere.
    reduce: ``(layer, Between) -> Between``, called in each block between attention and feed-forward
      layer, with fewer tokens in what it returns, merged or dropped; see `repjax.select`. It has no
      weights, so that ``vit.clone(reduce=...)`` takes those of ``vit``. Means over patches are then
      by size, and the trace behind the last block is sown as ``trace`` among ``intermediates``.

  References:
    Dosovitskiy et al., `An Image is Worth 16x16 Words <https://arxiv.org/abs/2010.11929>`_, 2020.
    Darcet et al., `Vision Transformers Need Registers <https://arxiv.org/abs/2309.16588>`_, 2023.
  """

  patch_size: int | tuple[int, int]
  dim: int
  depth: int
  heads: int
  mlp_dim: int | None = None
  mlp_ratio: float = 4
  pool: Literal["mean", "cls", "attention"] = "mean"
  pool_size: tuple[int, int] | None = None
  pool_prefix: bool = False
  class_token: bool | None = None
  distillation_token: bool = False
  registers: int = 0
  positions: Literal["sincos", "learned", "rotary", "relative"] = "sincos"
  rotary: Callable[[Grid, int], tuple[Any, Any]] | Literal["mixed"] | None = None
  class_position: bool = True
  image_size: int | tuple[int, int] | None = None
  stem: Literal["patch", "conv"] = "patch"
  patch_bias: bool = True
  embedding_norm: bool = False
  final_norm: bool = True
  norm_after_pool: bool = False
  projection: int | None = None
  activation: Activation = gelu
  gated: bool = False
  layer_scale: float | None = None
  attention_norm: bool = False
  mlp_norm: bool = False
  epsilon: float = 1e-6
  scan: bool = False
  remat: bool = False
  dtype: DTypeLike = jnp.float32
  attention: Implementation = "auto"
  reduce: Reduce | None = None

  @nn.compact
  def __call__(
    self,
    image: jax.Array,
    *,
    train: bool = False,
    tokens_in: TokensIn | None = None,
    mask: jax.Array | None = None,
    keep: jax.Array | None = None,
  ) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: without effect, since nothing here depends on it; every encoder takes it.
      tokens_in: ``(layer, [batch, n, dim]) -> [batch, m, dim]``, called on the whole sequence
        before each block: prompts, representation tokens, dropped or merged tokens. Class token
        and registers come first and must stay; all that follows counts as patch tokens.
      mask: ``[batch, patches]`` boolean; true patches are replaced by a learned token before
        positions are added. The parameter ``mask_token`` exists if a mask was given at init.
      keep: ``[batch, kept]`` int32, the patches that go in, chosen after positions are added; all
        if absent.

    Returns:
      Features; ``pooled`` and ``tokens`` are taken after the final norm, ``layers`` before it.

    Raises:
      ValueError: if sizes do not divide, or options contradict each other.
    """
    del train
    _check(self, image, tokens_in, mask)
    patch = pair(self.patch_size)
    grid = (image.shape[1] // patch[0], image.shape[2] // patch[1])
    class_token = self.pool == "cls" if self.class_token is None else self.class_token
    mlp_dim = self.mlp_dim or int(self.mlp_ratio * self.dim)

    if self.stem == "patch":
      x = dense(self.dim, self.dtype, "patch", bias=self.patch_bias)(patchify(image, patch))
    else:
      x = ConvStem(self.dim, patch[0], self.dtype, name="stem")(image)
      x = x.reshape(len(image), -1, self.dim)
    if mask is not None:
      token = self.param("mask_token", _token_init, (self.dim,)).astype(self.dtype)
      x = jnp.where(mask[..., None], token[None, None], x)
    positions, class_position = self._positions(grid, class_token)
    x = x + positions[None].astype(self.dtype)
    if keep is not None:
      x = jnp.take_along_axis(x, keep[..., None], 1)
    options, seen = {}, {}
    if self.positions == "relative":
      options["grid"] = grid
    kept = lambda tables: Rotation(*(x if keep is None else x[0][keep] for x in tables))
    rotary, head_dim = self.rotary, self.dim // self.heads
    if rotary is None and self.positions == "rotary":
      rotary = rotary_2d
    frequencies = None
    if rotary == "mixed":
      shape = (2, self.depth, self.heads, head_dim // 2)
      frequencies = jnp.moveaxis(self.param("frequencies", mixed_frequencies, shape), 1, 0)
    elif rotary is not None:
      seen["rotation"] = kept(map(jnp.asarray, rotary(grid, head_dim)))

    prefix = []
    if class_token:
      token = self.param("class_token", _token_init, (1, self.dim))
      if self.distillation_token:
        second = self.param("distillation_token", _token_init, (1, self.dim))
        token = jnp.concatenate([token, second])
      prefix.append(token + class_position)
    if self.registers:
      prefix.append(self.param("registers", _token_init, (self.registers, self.dim)))
    if prefix:
      front = jnp.concatenate(prefix).astype(self.dtype)
      x = jnp.concatenate([jnp.broadcast_to(front, (len(x), *front.shape)), x], 1)
    first = class_token + self.distillation_token + self.registers
    if self.embedding_norm:
      x = norm(self.dtype, "embedding_norm", epsilon=self.epsilon)(x)

    make = nn.remat(Block, prevent_cse=not self.scan) if self.remat else Block
    options |= {"epsilon": self.epsilon, "activation": self.activation, "gated": self.gated}
    options |= {"layer_scale": self.layer_scale, "attention_norm": self.attention_norm}
    options |= {"mlp_norm": self.mlp_norm}
    make = functools.partial(make, self.heads, mlp_dim, self.dtype, self.attention, **options)
    turned = lambda own: seen if own is None else seen | {"rotation": kept(rotary_mixed(grid, own))}
    sizes, trace = None, None
    if self.scan:

      def body(block, x, own):
        x = block(x, **turned(own))
        return x, x

      loop = nn.scan(
        body, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.depth
      )
      x, outputs = loop(make(name="blocks"), x, frequencies)
      layers = [outputs[i] for i in range(self.depth)]
    else:
      layers = []
      for i in range(self.depth):
        x = x if tokens_in is None else tokens_in(i, x)
        own = turned(None if frequencies is None else frequencies[i])
        if self.reduce is None:
          x = make(name=f"block_{i}")(x, **own)
        else:
          block = make(reduce=functools.partial(self.reduce, i), name=f"block_{i}")
          x, sizes, trace = block(x, sizes=sizes, trace=trace, **_follow(own, trace, first))
        layers.append(x)
    if trace is not None:
      self.sow("intermediates", "trace", trace)

    final = norm(self.dtype, "norm", epsilon=self.epsilon) if self.final_norm else lambda x: x
    x = x if self.norm_after_pool else final(x)
    tokens = x[:, first:]
    if self.pool == "cls":
      pooled = jnp.mean(x[:, :2], 1) if self.distillation_token else x[:, 0]
    elif self.pool == "mean" and sizes is not None:
      weights = sizes[:, first:] / jnp.sum(sizes[:, first:], 1, keepdims=True)
      pooled = jnp.sum(tokens * weights[..., None].astype(tokens.dtype), 1)
    elif self.pool == "mean":
      pooled = jnp.mean(tokens, 1)
    else:
      shape = self.pool_size or (self.heads, mlp_dim)
      shape = (*shape, self.dtype, self.attention, self.activation, self.epsilon)
      front = 0 if self.pool_prefix else first
      bias = None if sizes is None else jnp.log(sizes[:, front:])[:, None, None]
      pooled = AttentionPool(*shape, name="pool")(x[:, front:], bias=bias)
    pooled = final(pooled) if self.norm_after_pool else pooled
    if self.projection is not None:
      pooled = dense(self.projection, self.dtype, "projection", bias=False)(pooled)
    return Features(pooled, tokens, tuple(layers))

  def _positions(self, grid, class_token):
    """Positions of the patches ``[patches, dim]``, and of the class token (0 if it has none)."""
    if self.positions == "sincos":
      return jnp.asarray(sincos_2d(grid, self.dim)), 0.0
    if self.positions != "learned":
      return jnp.zeros((1, self.dim)), 0.0
    front = (class_token + self.distillation_token) * self.class_position
    native = grid
    if self.image_size is not None:
      native = tuple(
        s // p for s, p in zip(pair(self.image_size), pair(self.patch_size), strict=True)
      )
    elif self.has_variable("params", "positions"):
      stored = len(self.get_variable("params", "positions")) - front
      if stored != math.prod(grid):
        raise ValueError(
          f"positions were learned for {stored} patches and the image has {math.prod(grid)}; "
          "set image_size= to the size at init to have them interpolated"
        )
    table = self.param("positions", _token_init, (front + math.prod(native), self.dim))
    own = table[:front] if front else 0.0
    return interpolate(table[front:], native, grid), own


class Size(NamedTuple):
  """Shape of a transformer: width, blocks, heads, feed-forward width."""

  dim: int
  depth: int
  heads: int
  mlp_dim: int


#: Ti to L: Touvron et al., 2020 (https://arxiv.org/abs/2012.12877) and Dosovitskiy et al., 2020;
#: H, g and G: Zhai et al., 2021 (https://arxiv.org/abs/2106.04560), table 2. nano and micro: ours.
SIZES = {
  "nano": Size(64, 3, 4, 256),
  "micro": Size(128, 4, 4, 512),
  "ti": Size(192, 12, 3, 768),
  "s": Size(384, 12, 6, 1536),
  "b": Size(768, 12, 12, 3072),
  "l": Size(1024, 24, 16, 4096),
  "h": Size(1280, 32, 16, 5120),
  "g": Size(1408, 40, 16, 6144),
  "G": Size(1664, 48, 16, 8192),
}


def vit(name: str, **overrides: Any) -> ViT:
  """A transformer by the name of its size and patch, such as ``vit_b16`` or ``vit_nano2``.

  Args:
    name: ``vit_``, a key of `SIZES` (``g`` and ``G`` differ), and the patch size in pixels.
    **overrides: fields of `ViT` to set.

  Returns:
    The module.

  Raises:
    ValueError: if the name cannot be read.
  """
  match = re.fullmatch(r"vit_([A-Za-z]+)(\d+)", name)
  if not match or match[1] not in SIZES:
    raise ValueError(
      f"{name!r} is not vit_SIZEPATCH; SIZE is one of {', '.join(SIZES)}, for example vit_b16"
    )
  return ViT(**({"patch_size": int(match[2])} | SIZES[match[1]]._asdict() | overrides))


def stack_blocks(params: dict) -> dict:
  """Parameters of an unrolled `ViT` as those of a scanned one.

  Args:
    params: nested dictionaries; wherever one has ``block_0``, ``block_1``, ..., they are stacked.

  Returns:
    The same tree with ``blocks`` in their place, its leaves ``[depth, ...]``.
  """
  if not isinstance(params, dict):
    return params
  depth = sum(re.fullmatch(r"block_\d+", name) is not None for name in params)
  blocks = [params[f"block_{i}"] for i in range(depth)]
  rest = {k: stack_blocks(v) for k, v in params.items() if not re.fullmatch(r"block_\d+", k)}
  return rest | {"blocks": jax.tree.map(lambda *x: jnp.stack(x), *blocks)} if depth else rest


def unstack_blocks(params: dict) -> dict:
  """Parameters of a scanned `ViT` as those of an unrolled one; undoes `stack_blocks`.

  Args:
    params: nested dictionaries, ``blocks`` with leaves ``[depth, ...]`` in one or more of them.

  Returns:
    The same tree with ``block_0``, ``block_1``, ... in place of ``blocks``.
  """
  if not isinstance(params, dict):
    return params
  rest = {k: unstack_blocks(v) for k, v in params.items() if k != "blocks"}
  if "blocks" not in params:
    return rest
  depth = len(jax.tree.leaves(params["blocks"])[0])
  take = lambda i: jax.tree.map(lambda x: x[i], params["blocks"])
  return rest | {f"block_{i}": take(i) for i in range(depth)}


def _follow(seen, trace, first):
  """Gives the tokens that are left the rotary positions of those whose places they take."""
  if trace is None or "rotation" not in seen:
    return seen
  kept = trace.kept[:, first:] - first
  shape = (len(kept), *seen["rotation"].sin.shape[1:])
  tables = (jnp.broadcast_to(table, shape) for table in seen["rotation"])
  take = jax.vmap(lambda table, rows: table[rows])
  return {"rotation": Rotation(*(take(table, kept) for table in tables))}


def _check(vit: ViT, image: jax.Array, tokens_in: TokensIn | None, mask: jax.Array | None) -> None:
  """Raises if sizes do not divide or options contradict each other."""
  check_image(image)
  check_heads(vit.dim, vit.heads)
  patch = pair(vit.patch_size)
  check_divisible("image", image.shape[1:3], patch)
  if vit.image_size is not None:
    check_divisible("image_size", pair(vit.image_size), patch)
  if vit.stem == "conv" and (patch[0] != patch[1] or patch[0] & (patch[0] - 1)):
    raise ValueError(
      f"stem='conv' halves the image, so it needs a square patch of 1, 2, 4, 8, ... pixels, "
      f"got {patch[0]}x{patch[1]}; choose one of those or stem='patch'"
    )
  if vit.stem == "conv" and mask is not None:
    raise ValueError(
      "mask= needs stem='patch', got stem='conv', whose convolutions show hidden pixels to "
      "neighbouring patches; build the ViT with stem='patch'"
    )
  known = ("sincos", "learned", "rotary", "relative")
  if vit.positions not in known:
    raise ValueError(f"positions={vit.positions!r} is not one of {', '.join(known)}")
  if vit.pool == "cls" and vit.class_token is False:
    raise ValueError("pool='cls' needs class_token=True, got False; leave it out or pool='mean'")
  if vit.distillation_token and not (vit.pool == "cls" or vit.class_token):
    raise ValueError(
      f"distillation_token=True needs a class token, got pool={vit.pool!r}; set class_token=True"
    )
  if vit.rotary == "mixed" and vit.dim // vit.heads % 4:
    raise ValueError(
      f"rotary positions need dim / heads divisible by 4, got {vit.dim // vit.heads}"
    )
  if vit.reduce is not None and vit.positions == "relative":
    raise ValueError(
      "reduce= needs positions of single tokens, got positions='relative', whose biases are those "
      "of a whole grid; choose a ViT with others"
    )
  hooks = {"tokens_in": tokens_in, "reduce": vit.reduce}
  hook = next((name for name, given in hooks.items() if given is not None), None)
  if vit.scan and hook:
    raise ValueError(
      f"{hook} needs scan=False, got scan=True, where all blocks share one program; build "
      "the ViT with scan=False and convert parameters with unstack_blocks"
    )
