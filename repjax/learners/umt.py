"""UMT: a video student sees what an image teacher attends to, and says what it says of it."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.arrays import at_least_float32
from repjax.augment import to_float
from repjax.encoders import Features, class_attention, with_relations
from repjax.encoders.transformer import dense, norm
from repjax.learners.learner import Objective, apply_module, example_keys, init_module
from repjax.learners.spread import spread
from repjax.learners.teacher import Teacher
from repjax.losses import unmasked_alignment


class AlignmentHeads(nn.Module):
  """A norm and a linear map for each of an encoder's upper layers.

  Attributes:
    out: the teacher's width.
    layers: how many.
  """

  out: int
  layers: int = 1

  @nn.compact
  def __call__(self, features: Features, *, train: bool = False) -> list[jax.Array]:
    """Maps the upper layers, the lowest of them first, to ``[batch, tokens, out]`` each."""
    del train
    count, upper = features.tokens.shape[1], features.layers[-self.layers :]
    maps = [dense(self.out, jnp.float32, f"map_{i}") for i in range(self.layers)]
    norms = [norm(jnp.float32, f"norm_{i}") for i in range(self.layers)]
    return [f(n(x[:, -count:])) for f, n, x in zip(maps, norms, upper, strict=True)]


def umt(
  encoder: nn.Module,
  heads: AlignmentHeads,
  teacher_encoder: nn.Module,
  teacher: Teacher,
  augment: Callable[[jax.Array, jax.Array], jax.Array] = lambda key, video: video,
  *,
  ratio: float = 0.8,
  choose: Literal["attention", "random"] = "attention",
  normalize: Callable[[jax.Array], jax.Array] = lambda video: video,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of UMT's first stage.

  Of each frame as many patches are drawn, without replacement, with the probabilities that the
  teacher's class token attends to them in its last block; the rest is hidden. The student encodes
  what was drawn of all frames together.

  Args:
    encoder: a `VideoTransformer`: ``batch["video"]``, ``[batch, frames, height, width, channels]``,
      to `Features`, with ``keep=``.
    heads: from the student's upper layers to the teacher's, of which as many are asked for; the
      last is asked for behind its final norm.
    teacher_encoder: a `ViT` of images, with a class token and patches as large as the student's.
    teacher: its variables.
    augment: ``(key, video) -> video`` for one clip in [0, 1].
    ratio: share of a frame's patches that is hidden, in (0, 1).
    choose: by the teacher's ``attention``, or at ``random``, the paper's ablation.
    normalize: last step before both encoders, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. The teacher is part of its state.

  Raises:
    ValueError: if ``choose`` is unknown; at the first use, if the teacher has no class token.

  References:
    Li et al., `Unmasked Teacher: Towards Training-Efficient Video Foundation Models
    <https://arxiv.org/abs/2303.16058>`_, 2023, section 3;
    ``single_modality/engines/engine_for_pretraining_umt.py`` of
    https://github.com/OpenGVLab/unmasked_teacher.
  """
  if choose not in ("attention", "random"):
    raise ValueError(f"choose={choose!r} is unknown; choose 'attention' or 'random'")

  def ask(teacher, video):
    """The teacher's upper layers and its attention, of all patches of all frames."""
    frames = video.reshape(-1, *video.shape[2:])
    variables = {"params": teacher.params, **teacher.rest}
    features, (last,) = with_relations(teacher_encoder, variables, frames, layers=(-1,))
    count = features.tokens.shape[1]
    attention = class_attention(last, features.layers[-1].shape[1] - count)
    lower = features.layers[len(features.layers) - heads.layers : -1]
    layers = [*(x[:, -count:] for x in lower), features.tokens]
    clip = lambda x: x.reshape(len(video), -1, x.shape[-1])
    return [clip(x) for x in layers], attention.reshape(*video.shape[:2], count)

  def draw(key, attention):
    """Places of one clip, frame after frame, ascending."""
    frames, patches = attention.shape
    weights = jnp.log(attention) if choose == "attention" else jnp.zeros_like(attention)
    # The highest of logarithms with Gumbel noise are a draw without replacement.
    scores = weights + jax.random.gumbel(key, attention.shape)
    places = jax.lax.top_k(scores, patches - int(patches * ratio))[1]
    places = jnp.sort(places, 1) + patches * jnp.arange(frames)[:, None]
    return places.reshape(-1).astype(jnp.int32)

  def init(key, batch):
    k_encoder, k_heads = jax.random.split(key)
    video = normalize(to_float(batch["video"]))
    params, rest = init_module(encoder, k_encoder, video)
    features = encoder.apply({"params": params, **rest}, video)
    params, extra = {"encoder": params}, {"encoder": rest}
    params["heads"], _ = init_module(heads, k_heads, features)
    # A state is donated: the teacher's buffers stay with whoever gave them.
    return params, extra | {"teacher": jax.tree.map(jnp.copy, teacher)}

  def loss(params, extra, batch, key):
    video = to_float(batch["video"])
    k_augment, k_draw = (
      example_keys(k, len(video), axis_name=axis_name) for k in jax.random.split(key)
    )
    video = normalize(jax.vmap(augment)(k_augment, video))
    targets, attention = ask(extra["teacher"], video)
    keep = jax.vmap(draw)(k_draw, at_least_float32(attention))
    student, rest = apply_module(
      encoder, params["encoder"], extra["encoder"], video, keep=keep, train=True
    )
    made = heads.apply({"params": params["heads"]}, student)
    seen = [jnp.take_along_axis(x, keep[..., None], 1) for x in targets]
    pairs = list(zip(made, seen, strict=True))
    value = sum(jnp.mean(unmasked_alignment(s, t)) for s, t in pairs) / len(pairs)
    metrics = spread(student.pooled, axis_name=axis_name)
    return value, (extra | {"encoder": rest}, metrics)

  def encode(params, extra, video):
    video = normalize(to_float(video))
    return apply_module(encoder, params["encoder"], extra["encoder"], video)[0]

  return Objective(init, loss, encode)
