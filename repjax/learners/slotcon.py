"""SlotCon: views agree on which pixels belong together and on what each group looks like."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax import losses
from repjax.augment import bring, overlap
from repjax.encoders import Features
from repjax.learners.learner import Objective
from repjax.learners.teacher import Schedule
from repjax.learners.views import Crops, joint_embedding


def slotcon(
  encoder: nn.Module,
  projector: nn.Module,
  predictor: nn.Module,
  place: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
  *,
  slots: int = 256,
  momentum: Schedule = 0.99,
  student_temperature: float = 0.1,
  teacher_temperature: float = 0.07,
  temperature: float = 0.2,
  group_weight: float = 0.5,
  center_momentum: float = 0.9,
  least_overlap: float = 0.01,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of SlotCon.

  Scores of pixels are compared in the box that both views show, each at as many places as the map
  has; a place is read once, where the authors' code averages over it. Slots are of whole views.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features` with tokens in a square.
    projector: ``[batch, pixels, dim] -> [batch, pixels, proj]``; the teacher has one too.
    predictor: ``[batch, slots, proj] -> [batch, slots, proj]``; the teacher has none.
    place: ``(key, image) -> (view, placement)`` for one image in [0, 1], upright; a `place_crop`
      with colours changed by `placed`. Drawn twice per example.
    slots: how many prototypes there are, of which each image uses some.
    momentum: of the teacher; 0.99 at first and 1 in the end (`rising_momentum`).
    student_temperature: of the student's assignments, > 0.
    teacher_temperature: of the teacher's, and of those that pool pixels, > 0.
    temperature: of the contrast between slots, > 0.
    group_weight: between 0, slots alone, and 1, grouping alone.
    center_momentum: of the mean of the teacher's scores.
    least_overlap: share of the smaller view that the box has to have, else the image is left out;
      the authors draw views until it is 0.01.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; features are the teacher's, as the authors evaluate. Parameter ``prototypes``
    are the slots' names, for `repjax.losses.group_pixels` of projected tokens.

  References:
    Wen et al., `Self-Supervised Visual Representation Learning with Semantic Grouping
    <https://arxiv.org/abs/2205.15288>`_, 2022, section 3, eq. 1 to 6; numbers from
    ``models/slotcon.py`` and scripts of https://github.com/CVMI-Lab/SlotCon.
  """

  def aligned(seen):
    """Scores of each view in the common box, by student and teacher, and which images count."""
    place_1, place_2 = seen.placements
    box, share = jax.vmap(overlap)(place_1, place_2)
    move = jax.vmap(lambda values, source, target: bring(values, source, target, extend=True))

    def within(view, placement):
      scores = view.scores
      side = round(scores.shape[1] ** 0.5)
      if side**2 != scores.shape[1]:
        raise ValueError(f"tokens of a square map are needed, got {scores.shape[1]} of them")
      moved = move(scores.reshape(-1, side, side, scores.shape[-1]), placement, box)
      return moved.reshape(scores.shape)

    views = [
      [within(view, placement) for view, placement in zip(side, seen.placements, strict=True)]
      for side in (seen.online, seen.target)
    ]
    return *views, share >= least_overlap

  def loss(seen):
    student, teacher, where = aligned(seen)

    def one_way(online, target):
      return losses.slotcon(
        student[online],
        teacher[target],
        seen.memory,
        seen.online[online].predicted,
        seen.target[target].projected,
        seen.online[online].wins,
        seen.target[target].wins,
        student_temperature=student_temperature,
        teacher_temperature=teacher_temperature,
        temperature=temperature,
        group_weight=group_weight,
        where=where,
        axis_name=axis_name,
      )

    return one_way(0, 1) + one_way(1, 0)

  def remember(seen):
    scores = jnp.concatenate([view.scores for view in seen.target])
    return losses.update_center(seen.memory, scores, momentum=center_momentum, axis_name=axis_name)

  return joint_embedding(
    _Grouping(encoder, projector, predictor, slots, teacher_temperature),
    [Crops(place, 2, placed=True)],
    loss,
    normalize=normalize,
    momentum=momentum,
    memory=lambda key, target: jnp.zeros(slots),
    remember=remember,
    encode_teacher=True,
    axis_name=axis_name,
  )


class _Slots(NamedTuple):
  """What `_Grouping` makes of images: as `Embedding`, with slots in the place of vectors."""

  features: Features
  projected: jax.Array
  predicted: jax.Array
  scores: jax.Array
  wins: jax.Array


class _Grouping(nn.Module):
  """An encoder, a projector of its tokens, and prototypes that group them."""

  encoder: nn.Module
  projector: nn.Module
  predictor: nn.Module
  slots: int
  temperature: float

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False, predict: bool = True) -> _Slots:
    features = self.encoder(image, train=train)
    pixels = self.projector(features.tokens, train=train)
    shape = (self.slots, pixels.shape[-1])
    prototypes = self.param("prototypes", nn.initializers.normal(1.0), shape)
    slots, scores, wins = losses.group_pixels(pixels, prototypes, temperature=self.temperature)
    predicted = self.predictor(slots, train=train) if predict else slots
    return _Slots(features, slots, predicted, scores, wins)
