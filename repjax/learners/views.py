"""What learners of several views share: draw views, embed them, compare, let the teacher follow."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, l2_normalize
from repjax.augment import to_float
from repjax.learners.learner import (
  Objective,
  Tree,
  apply_module,
  example_keys,
  init_module,
  join_views,
  part_views,
)
from repjax.learners.network import Embedding, Network, encode_with
from repjax.learners.spread import spread
from repjax.learners.teacher import Schedule, Teacher, advance, start_teacher


class Crops(NamedTuple):
  """Views of one size.

  Attributes:
    augment: ``(key, image) -> image`` for one image in [0, 1].
    count: how many are drawn an image.
    placed: whether ``augment`` returns ``(image, placement)``, as those of
      `repjax.augment.placement` do.
  """

  augment: Callable[[jax.Array, jax.Array], jax.Array]
  count: int
  placed: bool = False


class Seen(NamedTuple):
  """What a loss of views is given.

  Attributes:
    online: the network's embedding of each view, global ones first.
    target: the teacher's embedding of each view that it saw; without a teacher the network's own.
      No gradient flows, and without a predictor of its own ``predicted`` is ``projected``.
    hidden: options by which the network saw each global view, ``[batch, ...]`` each.
    placements: where each of the network's views lies in its image, ``[batch, 2, 3]``; nothing
      for views that do not say.
    batch: what was drawn from.
    params: the network's parameters.
    teacher: the teacher's parameters, if there is one.
    memory: the method's, as ``remember`` left it.
    step: updates made so far.
    key: for what the method draws itself.
  """

  online: tuple[Embedding, ...]
  target: tuple[Embedding, ...]
  hidden: tuple[dict[str, jax.Array], ...]
  placements: tuple[jax.Array | None, ...]
  batch: Tree
  params: Tree
  teacher: Tree
  memory: Tree
  step: jax.Array
  key: jax.Array


def joint_embedding(
  network: Network,
  crops: Sequence[Crops],
  loss: Callable[[Seen], jax.Array],
  *,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  momentum: Schedule | None = None,
  whole: Crops | None = None,
  memory: Callable[[jax.Array, Embedding], Tree] | None = None,
  remember: Callable[[Seen], Tree] = lambda seen: seen.memory,
  hide: Callable[[jax.Array, jax.Array], dict[str, jax.Array]] | None = None,
  encode_teacher: bool = False,
  axis_name: str | None = None,
) -> Objective:
  """Builds an objective that compares embeddings of several views of an image.

  Args:
    network: what is trained.
    crops: views by size. The first are the global ones: the teacher sees them alone.
    loss: of what was seen, a scalar; it couples the batch as it likes.
    normalize: last step before the encoder, in training and in ``encode``.
    momentum: of the teacher, a number or ``step -> number``; no teacher if absent.
    whole: views for the teacher alone; if absent it sees the global ones.
    memory: makes what the method keeps beside parameters, such as a queue or a centre, from a key
      and the target's embedding of a few images; nothing if absent.
    remember: what is kept after a step, without gradient.
    hide: ``(key, view) -> options`` of the encoder for one global view, normalised, such as
      ``{"mask": [patches]}``; the teacher sees all of it.
    encode_teacher: whether features are the teacher's.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. Its metrics are those of `spread`, of the first view's features, and
    ``agreement``, the mean cosine of the first view's projection and the second's, or the
    target's where there is one view.

  Raises:
    ValueError: if there are views for a teacher and no teacher.
  """
  if whole is not None and momentum is None:
    raise ValueError("whole= are views for a teacher, and momentum=None makes none; give both")
  views = [group.count for group in crops]
  groups = [*crops, *([] if whole is None else [whole])]

  def draw(batch, key):
    """Views by size, normalised, and where they lie."""
    image = to_float(batch["image"])
    keys = iter(jax.random.split(key, sum(group.count for group in groups)))
    drawn = [
      [
        jax.vmap(group.augment)(example_keys(next(keys), len(image), axis_name=axis_name), image)
        for _ in range(group.count)
      ]
      for group in groups
    ]
    pairs = [
      [view if group.placed else (view, None) for view in shown]
      for group, shown in zip(groups, drawn, strict=True)
    ]
    views = [[normalize(view) for view, _ in shown] for shown in pairs]
    return views, [[place for _, place in shown] for shown in pairs]

  def hidden(key, drawn):
    if hide is None:
      return [{} for _ in drawn]
    keys = [
      example_keys(k, len(drawn[0]), axis_name=axis_name) for k in jax.random.split(key, len(drawn))
    ]
    return [jax.vmap(hide)(k, view) for k, view in zip(keys, drawn, strict=True)]

  def init(key, batch):
    k_network, k_draw, k_memory, k_hide = jax.random.split(key, 4)
    # Shapes are those of a global view, whatever the image's. No axis is mapped yet.
    image = to_float(batch["image"])
    drawn = jax.vmap(crops[0].augment)(jax.random.split(k_draw, len(image)), image)
    image = normalize(drawn[0] if crops[0].placed else drawn)
    options = {} if hide is None else jax.vmap(hide)(jax.random.split(k_hide, len(image)), image)
    params, rest = init_module(network, k_network, image, **options)
    extra = {"rest": rest, "step": jnp.zeros((), jnp.int32)}
    if momentum is not None:
      extra["teacher"] = start_teacher(params, rest)
    if memory is not None:
      target, _ = apply_module(network, params, rest, image, predict=False)
      extra["memory"] = memory(k_memory, target)
    return params, extra

  def loss_and_extra(params, extra, batch, key):
    k_method = jax.random.fold_in(key, 0)
    drawn, placements = draw(batch, key)
    options = hidden(jax.random.fold_in(key, 1), drawn[0])
    rest, online = extra["rest"], []
    for group, shown in enumerate(drawn[: len(crops)]):
      # All views of a size in one pass, so that batch statistics are of them all.
      image = join_views(shown)
      given = jax.tree.map(lambda *x: join_views(x), *options) if group == 0 else {}
      joined, rest = apply_module(network, params, rest, image, train=True, **given)
      online += _part(joined, len(shown))
    extra = extra | {"rest": rest}
    of_teacher = drawn[0] if whole is None else drawn[-1]
    if momentum is not None:
      teacher = extra["teacher"]
      joined, seen_rest = apply_module(
        network, teacher.params, teacher.rest, join_views(of_teacher), train=True, predict=False
      )
      target = _part(joined, len(of_teacher))
      extra["teacher"] = teacher._replace(rest=seen_rest)
    else:
      target = [x._replace(predicted=x.projected) for x in online[: views[0]]]
    seen = Seen(
      online=tuple(online),
      target=tuple(lax.stop_gradient(target)),
      hidden=tuple(options),
      placements=tuple(where for shown in placements[: len(crops)] for where in shown),
      batch=batch,
      params=params,
      teacher=None if momentum is None else extra["teacher"].params,
      memory=extra.get("memory"),
      step=extra["step"],
      key=k_method,
    )
    value = loss(seen)
    if memory is not None:
      extra["memory"] = lax.stop_gradient(remember(seen))
    other = (*seen.online, *seen.target)[1].projected
    unit = lambda x: l2_normalize(lax.stop_gradient(at_least_float32(x)))
    metrics = spread(online[0].features.pooled, axis_name=axis_name)
    metrics["agreement"] = jnp.mean(jnp.sum(unit(online[0].projected) * unit(other), -1))
    return value, (extra, metrics)

  def encode(params, extra, image):
    source = extra["teacher"] if encode_teacher else Teacher(params, extra["rest"])
    return encode_with(network.encoder, *source, normalize(to_float(image)))

  return Objective(init, loss_and_extra, encode, partial(advance, momentum=momentum))


def _part(joined: Embedding, views: int) -> list[Embedding]:
  """One embedding per view, from that of views side by side."""
  take = lambda i: jax.tree.map(lambda x: part_views(x, views)[i], joined)
  return [take(i) for i in range(views)]
