"""OBoW: tell from a crop which visual words the whole image has; the words are ever renewed."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax import losses
from repjax.arrays import l2_normalize
from repjax.learners.learner import Objective, example_keys
from repjax.learners.network import Network
from repjax.learners.queue import push, start_queue
from repjax.learners.teacher import Schedule
from repjax.learners.views import Crops, joint_embedding


def obow(
  encoder: nn.Module,
  crops: Sequence[Crops],
  whole: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  words: int = 8192,
  momentum: Schedule = 0.99,
  inverse_delta: float = 15.0,
  kappa: float = 8.0,
  distance_momentum: float = 0.99,
  border: int = 1,
  window: int = 3,
  renew_steps: int | None = None,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of OBoW, with the words of the encoder's last layer.

  Vocabulary: a queue of the teacher's local features, one an image, from a place drawn at random
  and averaged over its neighbours. Classifier: its weights are made of the words by a small net,
  since words come and go. The paper's fullest version has words of two layers.

  Args:
    encoder: images ``[batch, height, width, channels]`` of every size of crop to `Features`, with
      tokens as wide as what is pooled and, of ``whole`` views, in a square.
    crops: the student's views, by size; losses are averaged over crops of one size and added up.
    whole: ``(key, image) -> image`` for one image in [0, 1], the teacher's view.
    words: size of the vocabulary, at least a batch.
    momentum: of the teacher; 0.99 at first and 1 in the end (`rising_momentum`).
    inverse_delta: sharpness of the assignments to words.
    kappa: length of the classifier's weights.
    distance_momentum: of the mean distance to the nearest word, which scales assignments.
    border: places left out at each edge of the teacher's map, whose features see padding.
    window: side of the square of places that is averaged to a word.
    renew_steps: updates after which the vocabulary stays as it is; none if absent.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; features are the student's, as in the paper. The vocabulary starts as random
    unit vectors, in the code as the positive part of normal ones.

  Raises:
    ValueError: at init, if the teacher's map is no square or too small for ``border, window``.

  References:
    Gidaris et al., `OBoW: Online Bag-of-Visual-Words Generation for Self-Supervised Learning
    <https://arxiv.org/abs/2012.11552>`_, 2020, section 3; border, window, start and order of
    updates from ``obow/builder_obow.py`` of https://github.com/valeoai/obow.
  """
  classifier = _Classifier()

  def places(view):
    """The teacher's map without its border."""
    tokens = view.features.tokens
    side = math.isqrt(tokens.shape[1])
    if side**2 != tokens.shape[1] or side < 2 * border + window:
      raise ValueError(
        f"the teacher's map has {tokens.shape[1]} places, {border=} and {window=} need a square of "
        f"at least {2 * border + window} a side; lower them or give larger views"
      )
    inner = slice(border, side - border)
    return tokens.reshape(len(tokens), side, side, -1)[:, inner, inner]

  def flat(maps):
    return maps.reshape(len(maps), -1, maps.shape[-1])

  def memory(key, target):
    dim = places(target).shape[-1]
    return {"words": start_queue(key, words, dim), "distance": jnp.asarray(0.5)}

  def distance(seen):
    return losses.update_word_distance(
      seen.memory["distance"],
      flat(places(seen.target[0])),
      seen.memory["words"].rows,
      momentum=distance_momentum,
      axis_name=axis_name,
    )

  def loss(seen):
    vocabulary = seen.memory["words"].rows
    found = flat(places(seen.target[0]))
    bags = losses.obow_targets(found, vocabulary, distance(seen), inverse_delta=inverse_delta)
    weights = kappa * classifier.apply({"params": seen.params["predictor"]}, vocabulary)
    per_crop = [
      jnp.mean(losses.obow(view.features.pooled @ weights.T, bags)) for view in seen.online
    ]
    total, first = 0.0, 0
    for group in crops:
      total += jnp.mean(jnp.stack(per_crop[first : first + group.count]))
      first += group.count
    return total

  def remember(seen):
    maps = places(seen.target[0])
    smooth = flat(nn.avg_pool(maps, (window, window)))
    keys = example_keys(seen.key, len(maps), axis_name=axis_name)
    drawn = jax.vmap(lambda key, rows: rows[jax.random.randint(key, (), 0, len(rows))])
    old = seen.memory["words"]
    new = push(old, drawn(keys, smooth), axis_name=axis_name)
    if renew_steps is not None:
      new = jax.tree.map(lambda x, y: jnp.where(seen.step < renew_steps, x, y), new, old)
    return {"words": new, "distance": distance(seen)}

  return joint_embedding(
    # As a predictor it is made with the network and left out of the teacher. What the network
    # makes of images by it, nobody looks at: it is for words.
    Network(encoder, predictor=classifier),
    crops,
    loss,
    normalize=normalize,
    momentum=momentum,
    whole=Crops(whole, 1),
    memory=memory,
    remember=remember,
    axis_name=axis_name,
  )


class _Classifier(nn.Module):
  """Unit weights of a linear classifier, one vector a word.

  Normalised over the words that it is given, in training and after, so that it keeps no statistics.
  """

  @nn.compact
  def __call__(self, words: jax.Array, *, train: bool = False) -> jax.Array:
    """Maps ``[words, dim]`` to ``[words, dim]``."""
    del train
    dim = words.shape[-1]
    x = nn.Dense(2 * dim, use_bias=False, name="dense_0")(l2_normalize(words))
    x = x - jnp.mean(x, 0, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), 0, keepdims=True) + 1e-5)
    scale = self.param("scale", nn.initializers.ones, (2 * dim,))
    offset = self.param("offset", nn.initializers.zeros, (2 * dim,))
    x = nn.relu(x * scale[None] + offset[None])
    return l2_normalize(nn.Dense(dim, name="dense_1")(x))
