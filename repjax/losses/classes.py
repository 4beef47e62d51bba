"""An example's own class against all the others, of which there may be millions.

A loss with vectors for each class is written as the logit of the own class, ``[batch]``, on which
margins act, and a function that forms the logits of a few classes. The logits of the others are
summed by `other_classes` in tiles of rows and classes, and never held all at once. Where the
compiler divides the vectors over a mesh, so it does the sums.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, l2_normalize
from repjax.losses.pairs import PairSums, pair_sums

# From features of rows ``[rows, dim]``, vectors of classes ``[classes, ...]``, what all of them
# share and a precision to logits ``[rows, classes]``.
Logits = Callable[[jax.Array, jax.Array, Any, lax.PrecisionLike], jax.Array]
Side = dict[str, jax.Array]


def class_labels(embeddings: jax.Array, labels: jax.Array, rank: int = 2, **vectors) -> jax.Array:
  """Labels, once it is known that embeddings, labels and vectors of classes fit together.

  Args:
    embeddings: ``[batch, dim]``.
    labels: ``[batch]`` int.
    rank: of the vectors; 2 is one for each class, 3 several.
    **vectors: the vectors of the classes by their argument name.

  Returns:
    The labels, ``[batch]`` int32.

  Raises:
    ValueError: naming each array and its shape, or the dtype of the labels.
  """
  ((name, x),) = vectors.items()
  shapes = {"embeddings": jnp.shape(embeddings), "labels": jnp.shape(labels), name: jnp.shape(x)}
  of_batch, of_labels, of_classes = shapes.values()
  fit = len(of_batch) == 2 and of_labels == of_batch[:1] and len(of_classes) == rank
  if not fit or of_batch[1] != of_classes[-1]:
    wanted = "[classes, dim]" if rank == 2 else f"[classes, {name}, dim]"
    raise ValueError(
      f"expected embeddings [batch, dim], labels [batch] and {name} {wanted}, got {shapes}"
    )
  if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
    raise ValueError(f"labels number the classes, got {jnp.result_type(labels)}; give integers")
  return jnp.asarray(labels, jnp.int32)


def to_unit(*arrays: jax.Array) -> tuple[jax.Array, ...]:
  """Scales vectors to unit length, in float32 or better.

  Args:
    *arrays: ``[..., dim]`` each.

  Returns:
    The same shapes.
  """
  return tuple(l2_normalize(at_least_float32(x)) for x in arrays)


def own_class(labels: jax.Array, vectors: jax.Array) -> jax.Array:
  """The vectors of each example's own class.

  Args:
    labels: ``[batch]`` int.
    vectors: ``[classes, ...]``.

  Returns:
    ``[batch, ...]``; those of some class where the label names none.
  """
  return jnp.take(vectors, labels, axis=0, mode="clip")


def products(z: jax.Array, centers: jax.Array, shared: Any, precision) -> jax.Array:
  """Logits that are inner products.

  Args:
    z: ``[rows, dim]``.
    centers: ``[classes, dim]``.
    shared: nothing.
    precision: of the products.

  Returns:
    ``[rows, classes]``.
  """
  del shared
  return jnp.matmul(z, centers.T, precision=precision)


def other_classes(
  logits: Logits,
  z: jax.Array,
  labels: jax.Array,
  vectors: jax.Array,
  tile_size: int | None,
  precision: lax.PrecisionLike,
  shared: Any = (),
) -> jax.Array:
  """Log-sum-exp over the logits of all classes but the own one.

  Args:
    logits: from some rows and classes to their logits; a function of its arguments alone.
    z: ``[batch, dim]``.
    labels: ``[batch]`` int; where negative, there is no own class.
    vectors: ``[classes, ...]``.
    tile_size: edge of the tiles, as in `repjax.losses.pairs.pair_sums`.
    precision: of the products.
    shared: what the logits of all pairs need, such as a learned temperature.

  Returns:
    ``[batch]``; -inf where there is no other class.
  """
  terms = functools.partial(_others, logits=logits, precision=precision)
  rows, columns = sides(z, labels, vectors)
  return pair_sums(terms, rows, columns, shared, tile_size=tile_size).log_sums[0]


def _others(row, column, shared, logits, precision) -> PairSums:
  of_pairs = logits(row["z"], column["z"], shared, precision)
  return PairSums((jnp.where(is_own(row, column), -jnp.inf, of_pairs),))


def sides(z: jax.Array, labels: jax.Array, vectors: jax.Array) -> tuple[Side, Side]:
  """Rows and columns of the pairs of an example and a class.

  Args:
    z: ``[batch, dim]``.
    labels: ``[batch]`` int.
    vectors: ``[classes, ...]``.

  Returns:
    What is known of the examples and of the classes.
  """
  return {"z": z, "class": labels}, {"z": vectors, "class": jnp.arange(len(vectors))}


def is_own(row: Side, column: Side) -> jax.Array:
  """Which pairs are of an example and its own class.

  Args:
    row: some of the rows of `sides`.
    column: some of the columns.

  Returns:
    ``[rows, classes]`` bool.
  """
  return row["class"][:, None] == column["class"][None, :]


def cross_entropy(own: jax.Array, others: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
  """Cross entropy of choosing the own class.

  Exact also where the own class is all but certain and the usual difference of a log-sum-exp and a
  logit would round to 0.

  Args:
    own: logit of the own class, ``[batch]``.
    others: log-sum-exp over the logits of the others, ``[batch]``.
    labels: ``[batch]`` int.
    classes: number of classes.

  Returns:
    ``[batch]``, as `of_labelled` gives it.
  """
  return of_labelled(jax.nn.softplus(others - own), labels, classes)


def of_labelled(loss: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
  """Leaves out examples without a label.

  Args:
    loss: ``[batch]``.
    labels: ``[batch]`` int.
    classes: number of classes.

  Returns:
    ``[batch]``: 0 where a label is negative, nan where it names no class.
  """
  loss = jnp.where(labels >= 0, loss, 0)
  return jnp.where(labels < classes, loss, jnp.nan)
