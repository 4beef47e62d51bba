"""Hybrid Distill: one teacher's features, another's token relations, without redundant tokens."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from repjax.arrays import at_least_float32, l2_normalize
from repjax.augment import to_float
from repjax.encoders import Relations, with_relations
from repjax.learners.learner import Objective, apply_module, example_keys, init_module
from repjax.learners.masking import patch_grid
from repjax.learners.spread import spread
from repjax.learners.teacher import Teacher
from repjax.losses import latent_prediction, token_relation


def hybrid_distill(
  encoder: nn.Module,
  head: nn.Module,
  contrastive_encoder: nn.Module,
  contrastive: Teacher,
  masked_encoder: nn.Module,
  masked: Teacher,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  stages: Mapping[int, float] | None = None,
  layers: Sequence[int] = (-1,),
  heads: int | None = None,
  relation_weight: float = 1.0,
  beta: float = 2.0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of Hybrid Distill from two frozen teachers.

  The student's last tokens are those of a contrastive or supervised teacher, standardised; its
  relations, query to key and value to value, are those of a masked-image teacher. Before some of
  its blocks the tokens that are most like all others are dropped, and no loss asks for them. The
  authors' code is not public: the divergence is MiniLM's, the redundancy of a token, its mean
  cosine with the image's others, is ours.

  Args:
    encoder: a `ViT`, the student, with ``tokens_in=``.
    head: ``[batch, tokens, dim] -> [batch, tokens, dim]`` to the contrastive teacher's width.
    contrastive_encoder: a `ViT` of as many patches.
    contrastive: its variables.
    masked_encoder: a `ViT` of as many patches.
    masked: its variables.
    augment: ``(key, image) -> image`` for one image in [0, 1]; all three see the same.
    stages: before which blocks of the student which share of all patches stays, such as
      ``{4: 0.7, 8: 0.5}``; all stay if absent.
    layers: blocks whose relations are imitated, of student and teacher alike; negative ones count
      from the last.
    heads: how many the relations are parted into; the student's if absent.
    relation_weight: of the relations beside the features; 0 is feature distillation alone.
    beta: where the smooth error of features turns from squared to absolute, > 0.
    normalize: last step before every encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. Teachers are part of its state. Metrics have both losses, ``feature_loss`` and
    ``relation_loss``.

  References:
    Shi et al., `Hybrid Distillation: Connecting Masked Autoencoders with Contrastive Learners
    <https://arxiv.org/abs/2306.15876>`_, 2023, section 4.
    Wei et al., `Contrastive Learning Rivals Masked Image Modeling in Fine-tuning via Feature
    Distillation <https://arxiv.org/abs/2205.14141>`_, 2022, for the standardised features.
  """
  stages = dict(stages or {})
  parts = heads or encoder.heads

  def init(key, batch):
    k_encoder, k_head = jax.random.split(key)
    image = normalize(to_float(batch["image"]))
    params, rest = init_module(encoder, k_encoder, image)
    tokens = encoder.apply({"params": params, **rest}, image).tokens
    params, extra = {"encoder": params}, {"encoder": rest}
    params["head"], extra["head"] = init_module(head, k_head, tokens)
    # A state is donated: the teachers' buffers stay with whoever gave them.
    extra |= jax.tree.map(jnp.copy, {"contrastive": contrastive, "masked": masked})
    return params, extra

  def loss(params, extra, batch, key):
    image = to_float(batch["image"])
    keys = example_keys(key, len(image), axis_name=axis_name)
    image = normalize(jax.vmap(augment)(keys, image))
    rows, columns = patch_grid(image, encoder.patch_size)
    thin = _Thin(stages, rows * columns)
    student, ours = with_relations(
      encoder,
      {"params": params["encoder"], **extra["encoder"]},
      image,
      layers=layers,
      heads=parts,
      tokens_in=thin,
    )
    predicted, rest = apply_module(head, params["head"], extra["head"], student.tokens, train=True)
    teacher, _ = apply_module(contrastive_encoder, *extra["contrastive"], image)
    wanted = thin.pick(teacher.tokens, -1)
    feature_loss = jnp.mean(latent_prediction(predicted, wanted, beta=beta, normalize_target=True))

    frozen = extra["masked"]
    _, theirs = with_relations(
      masked_encoder, {"params": frozen.params, **frozen.rest}, image, layers=layers, heads=parts
    )
    relation_loss = jnp.zeros(())
    for layer, our, their in zip(layers, ours, theirs, strict=True):
      our, their = _patches(our, thin.kept[1:][layer].shape[1]), _patches(their, thin.patches)
      their = jax.tree.map(lambda x, layer=layer: thin.pick(x, layer, axis=2), their)
      pairs = ((our.query, our.key), (their.query, their.key))
      values = ((our.value, our.value), (their.value, their.value))
      for (q_s, k_s), (q_t, k_t) in (pairs, values):
        relation_loss += jnp.mean(token_relation(q_s, k_s, q_t, k_t)) / len(layers)
    metrics = {"feature_loss": feature_loss, "relation_loss": relation_loss}
    metrics |= spread(student.pooled, axis_name=axis_name)
    return feature_loss + relation_weight * relation_loss, (extra | {"head": rest}, metrics)

  def encode(params, extra, image):
    image = normalize(to_float(image))
    return apply_module(encoder, params["encoder"], extra["encoder"], image)[0]

  return Objective(init, loss, encode)


class _Thin:
  """The hook of one forward pass that drops tokens and knows which each block was given."""

  def __init__(self, stages, patches):
    self.stages, self.patches, self.kept = stages, patches, []

  def __call__(self, layer, x):
    if not self.kept:
      self.kept = [jnp.broadcast_to(jnp.arange(self.patches)[None], (len(x), self.patches))]
    now = self.kept[-1]
    if layer in self.stages:
      prefix, count = x.shape[1] - now.shape[1], round(self.stages[layer] * self.patches)
      places = distinct(x[:, prefix:], count)
      now = jnp.take_along_axis(now, places, 1)
      tokens = jnp.take_along_axis(x[:, prefix:], places[..., None], 1)
      x = jnp.concatenate([x[:, :prefix], tokens], 1)
    self.kept.append(now)
    return x

  def pick(self, x, layer, axis=1):
    """Of all patches those that a block was given; the first entry is from before any block."""
    now = self.kept[1:][layer]
    index = now.reshape(len(now), *[1] * (axis - 1), -1, *[1] * (x.ndim - axis - 1))
    return jnp.take_along_axis(x, index, axis)


def distinct(tokens: jax.Array, count: int) -> jax.Array:
  """The tokens that are least like the others.

  Args:
    tokens: ``[batch, tokens, dim]``.
    count: how many to keep.

  Returns:
    ``[batch, count]`` places, ascending: those of the lowest mean cosine with all tokens.

  Raises:
    ValueError: if there are not as many.
  """
  if not 1 <= count <= tokens.shape[1]:
    raise ValueError(f"{count} of {tokens.shape[1]} tokens cannot stay; choose a lower share")
  unit = l2_normalize(at_least_float32(lax.stop_gradient(tokens)))
  likeness = jnp.einsum("btd,bd->bt", unit, jnp.mean(unit, 1))
  return jnp.sort(lax.top_k(-likeness, count)[1], 1)


def _patches(relations: Relations, count: int) -> Relations:
  """Without class token and registers, which come first."""
  return Relations(*(x[:, :, -count:] for x in relations))
