"""Transitive invariance: views of one thing, things that look alike, and what follows from both."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from repjax.augment import to_float
from repjax.learners.learner import (
  Objective,
  apply_module,
  example_keys,
  init_module,
  join_views,
  part_views,
)
from repjax.learners.network import Network, encode_with
from repjax.learners.spread import spread
from repjax.losses import triplet
from repjax.losses.distances import cosine_distance
from repjax.losses.layout import gather, row_index

#: The corners of a chain A' - A - B - B', by their names in a batch.
CORNERS = ("image", "tracked", "similar", "similar_tracked")
INTRA = ((0, 1), (2, 3))
INTER = ((0, 2),)
TRANSITIVE = ((1, 3), (1, 2), (0, 3))


def chains(tracks: np.ndarray, edges: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
  """Walks the graph: a later frame, an instance, one that looks like it, a later frame of that.

  Args:
    tracks: ``[instances, frames, height, width, channels]``, the first frame being the one that
      neighbours were mined by.
    edges: ``[instances, count]``.
    seed: of the later frames.

  Returns:
    A batch of all chains, ``[instances * count, height, width, channels]`` for each of ``image``,
    ``tracked``, ``similar`` and ``similar_tracked``.

  Raises:
    ValueError: if tracks have one frame.
  """
  if tracks.shape[1] < 2:
    raise ValueError(f"tracks have {tracks.shape[1]} frames; give at least 2")
  rng = np.random.default_rng(seed)
  a = np.repeat(np.arange(len(edges)), edges.shape[1])
  b = edges.reshape(-1)
  later = lambda: rng.integers(1, tracks.shape[1], len(a))
  corners = (tracks[a, 0], tracks[a, later()], tracks[b, 0], tracks[b, later()])
  return dict(zip(CORNERS, corners, strict=True))


def transitive_invariance(
  encoder: nn.Module,
  projector: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  positives: tuple[tuple[int, int], ...] = INTRA + INTER + TRANSITIVE,
  margin: float = 0.5,
  negatives: int = 4,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds a ranking objective over chains A' - A - B - B' of a graph of instances.

  A and A' are frames of one track, A and B look alike; by transitivity (A', B'), (A', B) and
  (A, B') are positives too. For each positive pair

  .. math:: \ell = \frac{1}{K} \sum_{x^-} \max(0, D(x, x^+) - D(x, x^-) + m), \quad D = 1 - \cos

  over the K images nearest to x among the batch's other chains' at the corner of :math:`x^+`.

  A batch has ``image``, ``tracked``, ``similar`` and ``similar_tracked``, as `chains` makes them.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``; dropped after training.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn for each corner.
    positives: pairs of corners of A, A', B, B': ``INTRA``, ``INTER`` and ``TRANSITIVE`` joined.
    margin: 0.5 in the paper.
    negatives: K, hardest negatives that count; 4 in the work that the paper builds on.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any; negatives are from all of it.

  Returns:
    The objective. Its metrics are those of `spread`.

  References:
    Wang et al., `Transitive Invariance for Self-supervised Visual Representation Learning
    <https://arxiv.org/abs/1708.02901>`_, 2017, sections 3 to 5.
    Wang and Gupta, `Unsupervised Learning of Visual Representations using Videos
    <https://arxiv.org/abs/1505.00687>`_, 2015, section 4.2 (hard negatives).
  """
  network = Network(encoder, projector)

  def init(key, batch):
    return init_module(network, key, normalize(to_float(batch["image"])))

  def rank(x, positive):
    everyone = gather(positive, axis_name)
    distance = lax.stop_gradient(cosine_distance(x, everyone))
    own = row_index(len(x), axis_name)[:, None] == jnp.arange(len(everyone))[None, :]
    hardest = lax.top_k(-jnp.where(own, jnp.inf, distance), negatives)[1]
    repeat = lambda rows: jnp.repeat(rows, negatives, 0)
    per_triplet = triplet(
      repeat(x),
      repeat(positive),
      everyone[hardest.reshape(-1)],
      margin=margin,
      distance=cosine_distance,
    )
    return jnp.mean(per_triplet)

  def loss(params, extra, batch, key):
    views = []
    for corner, k in zip(CORNERS, jax.random.split(key, len(CORNERS)), strict=True):
      image = to_float(batch[corner])
      views.append(jax.vmap(augment)(example_keys(k, len(image), axis_name=axis_name), image))
    image = normalize(join_views(views))
    embedding, extra = apply_module(network, params, extra, image, train=True)
    z = part_views(embedding.projected, len(CORNERS))
    x, positive = (jnp.stack([z[pair[side]] for pair in positives]) for side in (0, 1))
    value = jnp.mean(jax.vmap(rank)(x, positive))
    first = part_views(embedding.features.pooled, len(CORNERS))[0]
    return value, (extra, spread(first, axis_name=axis_name))

  def encode(params, extra, image):
    return encode_with(encoder, params, extra, normalize(to_float(image)))

  return Objective(init, loss, encode)
