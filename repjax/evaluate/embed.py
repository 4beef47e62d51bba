"""Whole splits to features, every example once."""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import P
from jax.sharding import Mesh, NamedSharding

from repjax.arrays import BATCH_AXES, on_mesh

Batch = dict[str, np.ndarray]


class Embedded(NamedTuple):
  """The features of a split, in the split's order.

  Attributes:
    features: ``[n, dim]`` float32.
    label: ``[n]`` int32; -1 where there is none.
  """

  features: np.ndarray
  label: np.ndarray


def embed(
  encode: Callable[[Any, jax.Array], Any],
  state: Any,
  batches: Iterable[Batch],
  *,
  batch_size: int,
  mesh: Mesh | None = None,
  progress: Callable[[Iterable[Batch]], Iterable[Batch]] | None = None,
) -> Embedded:
  """Encodes every example once, in order, whatever the batch and device count.

  Each batch is filled up to one fixed size that the devices divide, and the filling dropped.

  Args:
    encode: ``(state, [batch, h, w, c] uint8) -> Features``, pure; a learner's ``encode``. Traced
      once per function and shape, over all calls.
    state: passed to ``encode``; with ``mesh``, placed on it or not yet placed at all.
    batches: dictionaries of ``image`` ``[b, h, w, c]`` uint8 and ``label`` ``[b]`` int, with
      ``b <= batch_size``. With several processes, all pass the same batches.
    batch_size: examples encoded at a time.
    mesh: devices to split each batch over, along the axes `repjax.arrays.BATCH_AXES`; JAX's
      default device if absent.
    progress: wraps ``batches``, as ``tqdm`` does.

  Returns:
    The pooled features and labels, on every process.

  Raises:
    ValueError: if there is no batch, one is larger than ``batch_size``, or a feature is not finite.
  """
  axes = () if mesh is None else tuple(name for name in BATCH_AXES if name in mesh.shape)
  multiple = 1 if mesh is None else math.prod(mesh.shape[name] for name in axes)
  padded = -(-batch_size // multiple) * multiple
  gathered = None if mesh is None else NamedSharding(mesh, P())
  features, label = [], []
  for batch in batches if progress is None else progress(batches):
    image, size = batch["image"], len(batch["image"])
    if size > batch_size:
      raise ValueError(f"a batch of {size} examples is larger than batch_size={batch_size}")
    filling = np.zeros((padded - size, *image.shape[1:]), image.dtype)
    image = np.concatenate([image, filling])
    if mesh is not None:
      image = jax.device_put(image, NamedSharding(mesh, P(axes)))
    features.append(_pooled(encode, gathered, state, image))
    label.append(np.asarray(batch["label"], np.int32))
    # The batch before is fetched only now, so that the device never waits for the host.
    if len(features) > 1:
      features[-2] = np.asarray(features[-2])[: len(label[-2])]
  if not label:
    raise ValueError("expected at least one batch to embed, got none; is the split empty?")
  features[-1] = np.asarray(features[-1])[: len(label[-1])]
  embedded = Embedded(np.concatenate(features), np.concatenate(label))
  finite = np.isfinite(embedded.features).all(1)
  if not finite.all():
    raise ValueError(
      f"features of {np.sum(~finite)} of {len(finite)} examples are not finite, first of example "
      f"{np.argmin(finite)}; encode with an earlier state or in float32"
    )
  return embedded


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pooled(encode, gathered, state, image):
  if gathered is None:
    return encode(state, image).pooled.astype(jnp.float32)
  pooled = on_mesh(encode, gathered.mesh)(state, image).pooled.astype(jnp.float32)
  return jax.lax.with_sharding_constraint(pooled, gathered)


def pixels(batches: Iterable[Batch]) -> Embedded:
  """The control that every encoder must beat: pixels themselves.

  Args:
    batches: as in `embed`.

  Returns:
    Features ``[n, h * w * c]`` in ``[0, 1]``, in raster order, and labels.

  Raises:
    ValueError: if there is no batch.
  """
  pairs = [(batch["image"], np.asarray(batch["label"], np.int32)) for batch in batches]
  if not pairs:
    raise ValueError("expected at least one batch of pixels, got none; is the split empty?")
  image, label = (np.concatenate(x) for x in zip(*pairs, strict=True))
  return Embedded(image.reshape(len(image), -1).astype(np.float32) / 255, label)


def labelled(train: Embedded, test: Embedded) -> tuple[Embedded, Embedded]:
  """Drops the examples labelled -1, which neither teach nor test.

  Args:
    train: features to learn from.
    test: features to be scored on, of the same dim.

  Returns:
    Both without unlabelled examples.

  Raises:
    ValueError: if the dims differ or either has no labelled example.
  """
  dims = train.features.shape[1], test.features.shape[1]
  if dims[0] != dims[1]:
    raise ValueError(
      f"train features have dim {dims[0]} and test features {dims[1]}; encode both with one encoder"
    )
  for name, split in {"train": train, "test": test}.items():
    if not np.any(split.label >= 0):
      raise ValueError(
        f"none of the {len(split.label)} {name} examples has a label >= 0; label some"
      )
  train, test = (Embedded(*(x[split.label >= 0] for x in split)) for split in (train, test))
  return train, test


def rank_in_class(key: jax.Array, label: np.ndarray) -> np.ndarray:
  """Each example's place in a random order of its class.

  A stratified subset is ``rank < size``; subsets of one key are nested.

  Args:
    key: sole source of randomness.
    label: ``[n]`` int.

  Returns:
    ``[n]`` int: for each class, a permutation of ``0 ... count - 1``.
  """
  order = np.asarray(jax.random.permutation(key, len(label)))
  order = order[np.argsort(label[order], kind="stable")]
  ordered = label[order]
  rank = np.empty(len(label), int)
  rank[order] = np.arange(len(label)) - np.searchsorted(ordered, ordered)
  return rank
