"""Whole splits to features, every example once."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import P
from jax.sharding import Mesh, NamedSharding

from repjax.arrays import batch_axes, batch_shards, on_mesh, place_rows

Batch = dict[str, np.ndarray]
_FILLING = np.iinfo(np.int32).min  # the label of what is no example


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
  rows: np.ndarray | None = None,
  progress: Callable[[Iterable[Batch]], Iterable[Batch]] | None = None,
) -> Embedded:
  """Encodes every example once, in order, whatever the batch, device and process count.

  Each batch is filled up to one fixed size that the devices divide, and the filling dropped.

  Args:
    encode: ``(state, [batch, h, w, c] uint8) -> Features``, pure; a learner's ``encode``. Traced
      once per function and shape, over all calls.
    state: passed to ``encode``; with ``mesh``, placed on it or not yet placed at all.
    batches: dictionaries of ``image`` ``[b, h, w, c]`` uint8 and ``label`` ``[b]`` int, with
      ``b <= batch_size``.
    batch_size: examples encoded at a time, over all processes.
    mesh: devices to split each batch over, along the axes `repjax.arrays.BATCH_AXES`; JAX's
      default device if absent.
    rows: ``[rows]`` ascending integers, the places in a batch that this process's ``batches`` hold,
      which are those of its devices; the last batches lack the places past the end. If absent, all
      processes pass all rows.
    progress: wraps ``batches``, as ``tqdm`` does.

  Returns:
    The pooled features and labels, on every process.

  Raises:
    ValueError: if there is no batch, one is larger than ``batch_size`` or than ``rows``, these are
      given and the devices do not divide the batch, or a feature is not finite.
  """
  multiple = 1 if mesh is None else batch_shards(mesh)
  padded = -(-batch_size // multiple) * multiple
  if rows is None:
    rows = np.arange(padded)
  elif padded != batch_size:
    raise ValueError(
      f"batch_size={batch_size} is not divisible by the {multiple} shards of the mesh; "
      f"use {padded}, and rows of that"
    )
  gathered = None if mesh is None else NamedSharding(mesh, P())

  def place(x, filling):
    x = np.concatenate([x, np.full((len(rows) - len(x), *x.shape[1:]), filling, x.dtype)])
    if mesh is None:
      return x
    return place_rows(x, rows, padded, NamedSharding(mesh, P(batch_axes(mesh))))

  encoded = []  # features and labels of all processes, batch by batch
  for batch in batches if progress is None else progress(batches):
    size = len(batch["image"])
    if size > min(batch_size, len(rows)):
      raise ValueError(
        f"a batch of {size} examples is larger than batch_size={min(batch_size, len(rows))}"
      )
    image, label = place(batch["image"], 0), place(np.asarray(batch["label"], np.int32), _FILLING)
    encoded.append(_pooled(encode, gathered, state, image, label))
    # The batch before is fetched only now, so that the device never waits for the host.
    if len(encoded) > 1:
      encoded[-2] = _fetch(*encoded[-2])
  if not encoded:
    raise ValueError("expected at least one batch to embed, got none; is the split empty?")
  encoded[-1] = _fetch(*encoded[-1])
  embedded = Embedded(*map(np.concatenate, zip(*encoded, strict=True)))
  finite = np.isfinite(embedded.features).all(1)
  if not finite.all():
    raise ValueError(
      f"features of {np.sum(~finite)} of {len(finite)} examples are not finite, first of example "
      f"{np.argmin(finite)}; encode with an earlier state or in float32"
    )
  return embedded


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pooled(encode, gathered, state, image, label):
  if gathered is None:
    return encode(state, image).pooled.astype(jnp.float32), label
  pooled = on_mesh(encode, gathered.mesh)(state, image).pooled.astype(jnp.float32)
  return jax.lax.with_sharding_constraint((pooled, label), gathered)


def _fetch(features, label):
  features, label = np.asarray(features), np.asarray(label)
  return features[label != _FILLING], label[label != _FILLING]


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


def projected(train: Embedded, test: Embedded, *, count: int) -> tuple[Embedded, Embedded]:
  """A control without learning: coordinates along the train features' directions of most variance.

  Args:
    train: features whose principal components are found, ``[n, dim]``.
    test: features to be turned in the same way.
    count: directions kept, at most ``dim``.

  Returns:
    Both, ``count`` wide, centred on the train mean.

  Raises:
    ValueError: if ``count`` is larger than the features are wide.
  """
  dim = train.features.shape[1]
  if count > dim:
    raise ValueError(f"count={count} components of features of dim {dim}; choose at most {dim}")
  mean = train.features.mean(0, keepdims=True, dtype=np.float64)
  centred = train.features - mean
  _, axes = np.linalg.eigh(centred.T @ centred)
  axes = axes[:, ::-1][:, :count]
  turn = lambda split: split._replace(features=((split.features - mean) @ axes).astype(np.float32))
  return turn(train), turn(test)


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


def unit_rows(x: np.ndarray) -> np.ndarray:
  """Rows at unit length.

  Args:
    x: ``[n, dim]``.

  Returns:
    Same shape, float64; rows of 0 stay.
  """
  x = np.asarray(x, np.float64)
  return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def generator(key: jax.Array) -> np.random.Generator:
  """NumPy's generator of a key, for draws on the host.

  Args:
    key: sole source of randomness.

  Returns:
    The generator, the same for the same key.
  """
  return np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())
