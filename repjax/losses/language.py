"""Losses that ask for tokens: the next one, or which ones a text has."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, cross_entropy, masked_mean


def prefix_mask(prefix: int | jax.Array, length: int) -> jax.Array:
  """Which positions each position may look at: all of the prefix, and what came before.

  A prefix of 0 gives the causal mask, a prefix of ``length`` the bidirectional one. Image regions
  that stand before a caption are a prefix.

  Args:
    prefix: tokens in the prefix: one number, or one per example, ``[batch]``.
    length: tokens in all.

  Returns:
    ``[length, length]`` bool, or ``[batch, length, length]``; the last axis is looked at.

  References:
    Raffel et al., `Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    Transformer <https://arxiv.org/abs/1910.10683>`_, 2019, section 3.2.
    Zhou et al., `Unified Vision-Language Pre-Training for Image Captioning and VQA
    <https://arxiv.org/abs/1909.11059>`_, 2019.
  """
  shape = (*jnp.shape(prefix), length, length)
  query, key = (lax.broadcasted_iota(jnp.int32, shape, len(shape) - k) for k in (2, 1))
  return (key <= query) | (key < jnp.asarray(prefix)[..., None, None])


def next_token(
  logits: jax.Array,
  tokens: jax.Array,
  *,
  mask: jax.Array | None = None,
  label_smoothing: float = 0.0,
) -> jax.Array:
  r"""Cross entropy of each token given those before it.

  .. math:: \ell = -\frac{1}{|M|} \sum_{t \in M} \log p(x_t \mid x_{<t})

  The logits at a position are of the token after it, so that those of the last position are not
  used. For a prefix language model, leave out the prefix by ``mask`` and let the model see it by
  `prefix_mask`.

  Args:
    logits: ``[batch, tokens, vocabulary]``.
    tokens: what the model read, ``[batch, tokens]`` int; negative ones are left out.
    mask: ``[batch, tokens]`` bool, tokens to ask for; all if absent. The first never is.
    label_smoothing: share of the target that is spread evenly over the vocabulary.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0, a mean over its tokens; 0 where none is asked for.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Radford et al., `Improving Language Understanding by Generative Pre-Training
    <https://openai.com/index/language-unsupervised>`_, 2018, eq. 1.
    Szegedy et al., `Rethinking the Inception Architecture for Computer Vision
    <https://arxiv.org/abs/1512.00567>`_, 2015, section 7, for label smoothing.
  """
  _check_tokens(logits, tokens=tokens, **({} if mask is None else {"mask": mask}))
  following = tokens[:, 1:]
  asked = following >= 0 if mask is None else mask[:, 1:] & (following >= 0)
  logits = at_least_float32(logits[:, :-1])
  loss = cross_entropy(logits, following, label_smoothing=label_smoothing)
  return masked_mean(loss, asked, axis=1)


def captioning(
  logits: jax.Array, tokens: jax.Array, *, pad: int = 0, label_smoothing: float = 0.0
) -> jax.Array:
  """The captioning loss of CoCa: `next_token` without the padding.

  A mean over a caption's own tokens; open_clip, whose logits and labels are shifted before, takes
  the mean over the tokens of the whole batch. CoCa weighs it by 2 beside a contrastive loss that
  weighs 1.

  Args:
    logits: ``[batch, tokens, vocabulary]``.
    tokens: the captions that the decoder read, ``[batch, tokens]`` int.
    pad: the token that fills up short captions.
    label_smoothing: share of the target that is spread evenly over the vocabulary.

  Returns:
    Loss per caption, ``[batch]`` float32, >= 0; 0 where all is padding.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Yu et al., `CoCa: Contrastive Captioners are Image-Text Foundation Models
    <https://arxiv.org/abs/2205.01917>`_, 2022, section 3.2.
  """
  return next_token(logits, tokens, mask=tokens != pad, label_smoothing=label_smoothing)


def bag_of_words(logits: jax.Array, tokens: jax.Array) -> jax.Array:
  r"""Cross entropy of the set of a text's tokens, asked for all at once.

  .. math:: \ell = -\frac{1}{|S|} \sum_{w \in S} \log \operatorname{softmax}(z)_w

  A word that is there twice counts once. DupMAE takes as logits the maximum over a text's tokens of
  their embeddings projected to the vocabulary, and leaves out special tokens.

  Args:
    logits: ``[batch, vocabulary]``.
    tokens: ``[batch, tokens]`` int; negative ones are left out.

  Returns:
    Loss per text, ``[batch]`` float32, >= 0; 0 where no token is left.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Xiao et al., `RetroMAE v2: Duplex Masked Auto-Encoder For Pre-Training Retrieval-Oriented
    Language Models <https://arxiv.org/abs/2211.08769>`_, 2022.
  """
  if jnp.ndim(logits) != 2 or jnp.ndim(tokens) != 2 or len(logits) != len(tokens):
    shapes = {"logits": jnp.shape(logits), "tokens": jnp.shape(tokens)}
    raise ValueError(
      f"expected logits [batch, vocabulary] and tokens [batch, tokens], got {shapes}"
    )
  batch, vocabulary = jnp.shape(logits)
  rows = jnp.broadcast_to(jnp.arange(batch)[:, None], jnp.shape(tokens))
  # Past the end, where a negative index would count from the end.
  columns = jnp.where(tokens < 0, vocabulary, tokens)
  there = jnp.zeros((batch, vocabulary), bool).at[rows, columns].set(True, mode="drop")
  return masked_mean(-jax.nn.log_softmax(at_least_float32(logits)), there, axis=1)


def _check_tokens(logits, **tokens) -> None:
  shapes = {"logits": jnp.shape(logits)} | {name: jnp.shape(x) for name, x in tokens.items()}
  if jnp.ndim(logits) != 3 or any(jnp.shape(x) != jnp.shape(logits)[:2] for x in tokens.values()):
    names = " and ".join(tokens)
    raise ValueError(
      f"expected logits [batch, tokens, vocabulary] and {names} [batch, tokens], got {shapes}"
    )
