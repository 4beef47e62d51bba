"""A transformer over words, in the shapes of CLIP's text tower and of BERT."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.arrays import check_mask
from repjax.encoders.features import Features
from repjax.encoders.named import size_by_name
from repjax.encoders.transformer import (
  Activation,
  Block,
  Implementation,
  check_heads,
  dense,
  gelu,
  norm,
  quick_gelu,
)
from repjax.encoders.vit import TokensIn

_init = nn.initializers.normal(0.02)


class TextTransformer(nn.Module):
  """Learned words and positions, then blocks that normalise before or after.

  Attributes:
    vocabulary: number of words.
    length: longest text, in words.
    dim: width.
    depth: number of blocks.
    heads: attention heads; divides ``dim``.
    mlp_dim: width of the feed-forward layers; four times ``dim`` if absent.
    norm_first: whether blocks normalise what goes in (CLIP), with a norm after the last of them, or
      the sum that comes out (BERT).
    causal: whether a word sees itself and earlier ones alone.
    token_types: kinds of segments that have a learned vector; 0 for none.
    embedding_norm: whether the sum of words, positions and types is normalised.
    activation: of the feed-forward layers; OpenAI's is `quick_gelu`.
    epsilon: of the layer norms.
    pool: ``cls``, the first token; ``end``, the token at ``end_token``; ``last``, whatever it is,
      as in SigLIP; ``mean`` of those there.
    end_token: word whose first place is the end; if absent it is the highest number, as in CLIP.
    projection: width that the pooled feature is mapped to; None for as it is. BERT's pooler, a
      layer with a tanh, belongs to a head.
    projection_bias: whether that map has a bias, as in SigLIP.
    dtype: of the computation; parameters are float32.
    attention: implementation of the attention; cuDNN's only without ``where`` and ``causal``.

  References:
    Radford et al., `Learning Transferable Visual Models From Natural Language Supervision
    <https://arxiv.org/abs/2103.00020>`_, 2021, section 2.4.
    Devlin et al., `BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding
    <https://arxiv.org/abs/1810.04805>`_, 2018, section 3.
  """

  vocabulary: int
  length: int
  dim: int
  depth: int
  heads: int
  mlp_dim: int | None = None
  norm_first: bool = True
  causal: bool = False
  token_types: int = 0
  embedding_norm: bool = False
  activation: Activation = gelu
  epsilon: float = 1e-5
  pool: Literal["cls", "end", "last", "mean"] = "cls"
  end_token: int | None = None
  projection: int | None = None
  projection_bias: bool = False
  dtype: DTypeLike = jnp.float32
  attention: Implementation = "auto"

  @nn.compact
  def __call__(
    self,
    words: jax.Array,
    *,
    train: bool = False,
    where: jax.Array | None = None,
    types: jax.Array | None = None,
    tokens_in: TokensIn | None = None,
  ) -> Features:
    """Encodes texts.

    Args:
      words: ``[batch, n]`` integers below ``vocabulary``.
      train: without effect; every encoder takes it.
      where: ``[batch, n]`` boolean, the words that are there; all if absent. Nobody sees padding.
      types: ``[batch, n]`` integers below ``token_types``, the segment of each word; 0 if absent.
      tokens_in: ``(layer, [batch, m, dim]) -> [batch, m', dim]``, called on the sequence before
        each block. It may put prompts in front, which every word sees; ``tokens`` lack them.

    Returns:
      Features. ``tokens [batch, n, dim]`` are the words after the last norm; ``layers`` are as the
      next block sees them, prompts included.

    Raises:
      ValueError: if ``words`` are not integers ``[batch, n]``, too many, or options contradict each
        other.
    """
    del train
    _check(self, words, where, types)
    batch, count = words.shape
    x = nn.Embed(self.vocabulary, self.dim, embedding_init=_init, name="word")(words)
    x = x + self.param("positions", _init, (self.length, self.dim))[None, :count]
    if self.token_types:
      types = jnp.zeros_like(words) if types is None else types
      x = x + nn.Embed(self.token_types, self.dim, embedding_init=_init, name="type")(types)
    x = x.astype(self.dtype)
    if self.embedding_norm:
      x = norm(self.dtype, "embedding_norm", epsilon=self.epsilon)(x)

    mlp_dim, layers = self.mlp_dim or 4 * self.dim, []
    for i in range(self.depth):
      x = x if tokens_in is None else tokens_in(i, x)
      there = _seen(where, batch, x.shape[1], self.causal)
      x = Block(
        self.heads, mlp_dim, self.dtype, self.attention,
        epsilon=self.epsilon, activation=self.activation, norm_first=self.norm_first,
        name=f"block_{i}",
      )(x, where=there)  # fmt: skip
      layers.append(x)
    x = norm(self.dtype, "norm", epsilon=self.epsilon)(x) if self.norm_first else x
    tokens = x[:, x.shape[1] - count :]

    if self.pool == "mean":
      kept = jnp.ones_like(words, bool) if where is None else where
      total = jnp.sum(jnp.where(kept[..., None], tokens, 0), 1)
      pooled = total / jnp.maximum(jnp.sum(kept, 1, keepdims=True), 1).astype(self.dtype)
    elif self.pool in ("cls", "last"):
      pooled = tokens[:, 0 if self.pool == "cls" else -1]
    else:
      end = words if self.end_token is None else words == self.end_token
      pooled = jnp.take_along_axis(tokens, jnp.argmax(end, 1)[:, None, None], 1)[:, 0]
    if self.projection is not None:
      bias = self.projection_bias
      pooled = dense(self.projection, self.dtype, "projection", bias=bias)(pooled)
    return Features(pooled, tokens, tuple(layers))


class TextSize(NamedTuple):
  """Shape of a text transformer and how it is built."""

  vocabulary: int
  length: int
  dim: int
  depth: int
  heads: int
  options: dict[str, Any]


_CLIP = {"causal": True, "activation": quick_gelu, "pool": "end"}
_BERT = {"norm_first": False, "token_types": 2, "embedding_norm": True, "epsilon": 1e-12}

#: CLIP: Radford et al., 2021, table 20 (the text towers of ViT-B/32 and B/16, and of ViT-L/14).
#: BERT: Devlin et al., 2018, section 3, with the vocabulary of the uncased models; tiny to medium:
#: Turc et al., 2019 (https://arxiv.org/abs/1908.08962), table 1.
TEXT_SIZES = {
  "clip_b": TextSize(49408, 77, 512, 12, 8, _CLIP | {"projection": 512}),
  "clip_l": TextSize(49408, 77, 768, 12, 12, _CLIP | {"projection": 768}),
  "bert_tiny": TextSize(30522, 512, 128, 2, 2, _BERT),
  "bert_mini": TextSize(30522, 512, 256, 4, 4, _BERT),
  "bert_small": TextSize(30522, 512, 512, 4, 8, _BERT),
  "bert_medium": TextSize(30522, 512, 512, 8, 8, _BERT),
  "bert_base": TextSize(30522, 512, 768, 12, 12, _BERT),
  "bert_large": TextSize(30522, 512, 1024, 24, 16, _BERT),
}


def text_transformer(name: str, **overrides: Any) -> TextTransformer:
  """A text transformer by its name.

  Args:
    name: a key of `TEXT_SIZES`.
    **overrides: fields of `TextTransformer` to set.

  Returns:
    The module.

  Raises:
    ValueError: if the name is not known.
  """
  size = size_by_name(name, TEXT_SIZES, "a text transformer")
  return TextTransformer(**(size.pop("options") | size | overrides))


def _seen(where, batch, count, causal):
  """What each token may see, ``[batch or 1, 1, count or 1, count]``; None for everything."""
  seen = None
  if where is not None:
    # Prompts stand in front of the words.
    seen = jnp.pad(where, ((0, 0), (count - where.shape[1], 0)), constant_values=True)
    seen = seen[:, None, None]
  if causal:
    past = np.tri(count, dtype=bool)[None, None]
    seen = past if seen is None else seen & past
  return seen


def _check(text, words, where, types):
  if words.ndim != 2 or not jnp.issubdtype(words.dtype, jnp.integer):
    raise ValueError(f"expected integer words [batch, n], got {words.dtype} {words.shape}")
  if words.shape[1] > text.length:
    raise ValueError(
      f"texts have {words.shape[1]} words and length={text.length}; cut them or set length="
    )
  if where is not None:
    check_mask(where, words.shape)
  if types is not None and not text.token_types:
    raise ValueError("types= needs token_types > 0, got token_types=0; set it or leave types= out")
  check_heads(text.dim, text.heads)
