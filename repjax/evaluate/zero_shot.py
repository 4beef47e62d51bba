"""Classification without labelled examples: by texts of the classes, or by paired anchors."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from repjax.arrays import cross_entropy, l2_normalize
from repjax.evaluate.embed import Embedded, labelled


def class_embeddings(text: jax.Array) -> jax.Array:
  """One vector a class from the texts that name it.

  Args:
    text: ``[classes, templates, dim]``, such as of "a photo of a {class}".

  Returns:
    The unit vector of the mean of each class's unit vectors, ``[classes, dim]``.

  Raises:
    ValueError: if ``text`` has another rank.

  References:
    Radford et al., `Learning Transferable Visual Models From Natural Language Supervision
    <https://arxiv.org/abs/2103.00020>`_, 2021, section 3.1.4 (ensembling over the space of
    embeddings).
  """
  if jnp.ndim(text) != 3:
    raise ValueError(f"expected text [classes, templates, dim], got {jnp.shape(text)}")
  return l2_normalize(jnp.mean(l2_normalize(text), 1))


def zero_shot(
  train: Embedded,
  test: Embedded,
  *,
  text: np.ndarray,
  key: jax.Array | None = None,
  temperature: float = 0.01,
  ks: Sequence[int] = (1, 5),
) -> dict[str, float]:
  """Classifies by the most similar of the classes' texts, as CLIP does.

  Unlabelled examples (-1) take no part.

  Args:
    train: not used: nothing is fitted; accepted as every evaluator does.
    test: image features.
    text: text features of the classes in the order of the labels, ``[classes, templates, dim]``, or
      ``[classes, dim]``.
    key: not used, there is nothing to draw.
    temperature: by which cosines are divided; it changes the cross entropy alone.
    ks: how many classes may be named; those beyond the number of classes are left out.

  Returns:
    ``zero_shot_top{k}``, accuracy in [0, 1], and ``zero_shot_nll``, the mean cross entropy in nats.

  Raises:
    ValueError: if the dims differ or a label has no text.
  """
  del train
  _, test = labelled(test, test)
  text = np.asarray(text, np.float32)
  names = class_embeddings(text if text.ndim == 3 else text[:, None])
  _check(test, names, "text", names.shape[0])
  logits = _cosine_logits(test.features, names) / temperature
  return _numbers("zero_shot", logits, test.label, ks)


def zero_shot_by_anchors(
  train: Embedded,
  test: Embedded,
  *,
  image_anchors: np.ndarray,
  text_anchors: np.ndarray,
  text: np.ndarray,
  key: jax.Array | None = None,
  kept: int = 800,
  exponent: float = 8.0,
  temperature: float = 0.01,
  ks: Sequence[int] = (1, 5),
) -> dict[str, float]:
  """Classifies with encoders of images and texts that were never trained together (ASIF).

  An input is told by its cosines to anchors of its own kind, of which the ``kept`` largest are
  raised to ``exponent`` and the rest are 0 (`relative_to_anchors`). Anchors are pairs of an image
  and its text, so that both kinds of inputs are told in the same terms, and compared by cosine. A
  class of several texts is the mean of its templates' features before it is compared with anchors.

  Args:
    train: not used: nothing is fitted.
    test: image features, ``[n, image_dim]``.
    image_anchors: ``[anchors, image_dim]``.
    text_anchors: ``[anchors, text_dim]``, row-aligned with ``image_anchors``.
    text: of the classes, ``[classes, templates, text_dim]`` or ``[classes, text_dim]``.
    key: not used, there is nothing to draw.
    kept: anchors of an input, at most all; the paper has 800 of 1.6 million.
    exponent: of the cosines, > 0; the paper has 8.
    temperature: of the cross entropy.
    ks: how many classes may be named.

  Returns:
    ``asif_top{k}`` and ``asif_nll``, as by `zero_shot`.

  Raises:
    ValueError: if shapes do not fit together or ``kept`` is out of range.

  References:
    Norelli et al., `ASIF: Coupled Data Turns Unimodal Models to Multimodal Without Training
    <https://arxiv.org/abs/2210.01738>`_, 2022, section 2. The paper's text was not at hand in full;
    order of steps and numbers are those of the authors' code.
  """
  del train
  _, test = labelled(test, test)
  text = np.asarray(text, np.float32)
  names = class_embeddings(text if text.ndim == 3 else text[:, None])
  if len(image_anchors) != len(text_anchors) or names.shape[1] != text_anchors.shape[1]:
    raise ValueError(
      f"expected paired anchors, the texts' of the dim of text, got {image_anchors.shape}, "
      f"{text_anchors.shape} and text {text.shape}"
    )
  _check(test, image_anchors, "image_anchors", len(names))
  options = {"kept": kept, "exponent": exponent}
  names = relative_to_anchors(names, text_anchors, **options)
  logits = _anchor_logits(test.features, np.asarray(image_anchors), names, **options) / temperature
  return _numbers("asif", logits, test.label, ks)


def relative_to_anchors(
  x: jax.Array, anchors: jax.Array, *, kept: int, exponent: float
) -> jax.Array:
  r"""An input in terms of the anchors that it resembles most.

  .. math:: r_j \propto \max(\cos(x, a_j), 0)^p \text{ for the k most similar anchors, else } 0

  The authors' code takes the power of negative cosines too, which an even exponent turns around; it
  meets none where more than k anchors are alike.

  Args:
    x: ``[n, dim]``.
    anchors: ``[anchors, dim]``.
    kept: k, at most ``anchors``; of equals the first.
    exponent: p, > 0.

  Returns:
    ``[n, anchors]``, of unit length, with at most ``kept`` entries above 0.

  Raises:
    ValueError: if dims differ or ``kept`` is out of range.

  References:
    Norelli et al., `ASIF: Coupled Data Turns Unimodal Models to Multimodal Without Training
    <https://arxiv.org/abs/2210.01738>`_, 2022, section 2.
  """
  if jnp.ndim(x) != 2 or jnp.ndim(anchors) != 2 or x.shape[1] != anchors.shape[1]:
    raise ValueError(f"expected [n, dim] and [anchors, dim], got {x.shape=} and {anchors.shape=}")
  if not 1 <= kept <= len(anchors):
    raise ValueError(f"{kept=} of {len(anchors)} anchors; choose from 1 to {len(anchors)}")
  cosine = jnp.matmul(l2_normalize(x), l2_normalize(anchors).T, precision="highest")
  value, index = lax.top_k(cosine, kept)
  # The largest is divided out, so that a high power of small cosines does not vanish in float32.
  value = jnp.maximum(value, 0)
  value = (value / jnp.maximum(value[:, :1], 1e-12)) ** exponent
  value = l2_normalize(value)
  return jnp.zeros_like(cosine).at[jnp.arange(len(x))[:, None], index].set(value)


@functools.partial(jax.jit, static_argnames=("kept",))
def _anchor_logits(features, anchors, names, *, kept, exponent):
  def of_one(x):
    relative = relative_to_anchors(x[None], anchors, kept=kept, exponent=exponent)
    return jnp.matmul(relative, names.T, precision="highest")[0]

  return lax.map(of_one, features, batch_size=min(256, len(features)))


@jax.jit
def _cosine_logits(features, names):
  return jnp.matmul(l2_normalize(features), names.T, precision="highest")


def _check(test, other, name, classes):
  if test.features.shape[1] != other.shape[1]:
    raise ValueError(f"features of dim {test.features.shape[1]} and {name} of dim {other.shape[1]}")
  if test.label.max() >= classes:
    raise ValueError(f"label {test.label.max()} has no text: text names {classes} classes")


def _numbers(title, logits, label, ks):
  classes = logits.shape[1]
  # Of equals the class of lower index comes first.
  order = np.argsort(-np.asarray(logits), 1, kind="stable")
  hit = order == label[:, None]
  numbers = {f"{title}_top{k}": float(hit[:, :k].any(1).mean()) for k in ks if k <= classes}
  loss = cross_entropy(jnp.asarray(logits), jnp.asarray(label))
  return numbers | {f"{title}_nll": float(np.mean(np.asarray(loss), dtype=np.float64))}
