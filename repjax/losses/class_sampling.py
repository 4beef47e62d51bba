"""Parts of the classes and of the dimensions, for softmaxes over millions of classes."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.losses.layout import gather


def sample_classes(
  key: jax.Array,
  labels: jax.Array,
  centers: jax.Array,
  *,
  count: int,
  axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Partial FC: every class of the batch, and others at random up to a fixed number.

  What comes out goes into any loss over classes::

    labels, some, _ = sample_classes(key, labels, centers, count=100_000)
    loss = arcface(embeddings, labels, some)

  The others are drawn uniformly and without replacement. Vectors of classes that were not drawn get
  a gradient of exactly 0; that an optimizer with momentum or weight decay leaves them alone too is
  up to the caller, who is told which were. Equal to the loss over all classes at
  ``count=classes``. Under ``axis_name`` the classes of all shards are kept: with the same key, all
  shards draw the same ones.

  Args:
    key: of the draw; the same on all shards.
    labels: ``[batch]`` int; negative ones stay -1.
    centers: a vector for each class, ``[classes, dim]``, or some, ``[classes, centers, dim]``.
    count: how many classes to keep; at least as many as the whole batch could have.
    axis_name: mapped axis that holds the other shards, if any.

  Returns:
    The labels among the classes kept, ``[batch]`` int32; their vectors, ``[count, ...]``; and which
    classes they are, ``[count]`` int32 in rising order.

  Raises:
    ValueError: if ``count`` classes may not hold those of the batch, or are not there.

  References:
    An et al., `Partial FC: Training 10 Million Identities on a Single Machine
    <https://arxiv.org/abs/2010.05222>`_, 2020.
    An et al., `Killing Two Birds with One Stone: Efficient and Robust Training of Face Recognition
    CNNs by Partial FC <https://arxiv.org/abs/2203.15565>`_, 2022.
  """
  labels = jnp.asarray(labels, jnp.int32)
  everyone = gather(labels, axis_name)
  classes = len(centers)
  least = min(len(everyone), classes)
  if not least <= count <= classes:
    raise ValueError(
      f"{count=} of {classes} classes for a batch of {len(everyone)}; "
      f"choose from {least}, so that all of the batch's fit, to {classes}"
    )
  # Classes of the batch come before any other; no label is sent to a place that is not there.
  place = jnp.where(everyone >= 0, everyone, classes)
  chance = jax.random.uniform(key, (classes,), jnp.float32).at[place].set(2.0, mode="drop")
  kept = jnp.sort(lax.top_k(chance, count)[1])
  place = jnp.searchsorted(kept, labels).astype(jnp.int32)
  # A label that names no class goes on naming none.
  place = jnp.where(labels < classes, place, count)
  return jnp.where(labels >= 0, place, -1), jnp.take(centers, kept, axis=0), kept


def sample_dimensions(
  key: jax.Array, embeddings: jax.Array, centers: jax.Array, *, count: int
) -> tuple[jax.Array, jax.Array]:
  """Unicom: the same few dimensions, drawn at random, of embeddings and class vectors.

  What comes out goes into any loss over classes, with a new key each step, so that any few of the
  dimensions come to tell classes apart. Losses that normalise do so within the dimensions drawn, as
  in the authors' code.

  Args:
    key: of the draw; the same on all shards.
    embeddings: ``[batch, dim]``.
    centers: vectors of the classes, ``[..., dim]``.
    count: how many dimensions to keep.

  Returns:
    Embeddings ``[batch, count]`` and centers ``[..., count]``.

  Raises:
    ValueError: if the dimensions differ, or ``count`` of them are not there.

  References:
    An et al., `Unicom: Universal and Compact Representation Learning for Image Retrieval
    <https://arxiv.org/abs/2304.05884>`_, 2023.
  """
  dim = jnp.shape(embeddings)[-1]
  if jnp.shape(centers)[-1] != dim:
    shapes = {"embeddings": jnp.shape(embeddings), "centers": jnp.shape(centers)}
    raise ValueError(f"expected [..., dim] shapes of one dim, got {shapes}")
  if not 1 <= count <= dim:
    raise ValueError(f"{count=} of {dim} dimensions; choose from 1 to {dim}")
  kept = jnp.sort(jax.random.permutation(key, dim)[:count])
  return jnp.take(embeddings, kept, axis=-1), jnp.take(centers, kept, axis=-1)
