"""Centres of clusters of tokens: CenterCLIP's segments and k-medoids, and its spectral variant."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, l2_normalize
from repjax.losses.distances import euclidean, squared_euclidean
from repjax.select.diversity import farthest_first
from repjax.select.tokens import Reduction, check_left, reduction_into


def k_medoids(tokens: jax.Array, left: int, *, iterations: int = 60) -> Reduction:
  """Deterministic k-medoids: the same tokens give the same centres.

  Starts from the longest token and then, again and again, the token farthest from the centres so
  far (KKZ). Then tokens go to their nearest centre, and of each cluster that token becomes the
  centre from which the distances to the others have the least sum, until nothing changes.

  Args:
    tokens: ``[batch, tokens, dim]``.
    left: number of clusters.
    iterations: at most so many.

  Returns:
    The reduction: `repjax.select.take` has the centres in the tokens' order, as CenterCLIP does,
    `repjax.select.merge` the clusters' means.

  Raises:
    ValueError: if there are fewer tokens than clusters.

  References:
    Zhao et al., `CenterCLIP: Token Clustering for Efficient Text-Video Retrieval
    <https://arxiv.org/abs/2205.00823>`_, 2022, as in the official code.
    Katsavounidis et al., `A new initialization technique for generalized Lloyd iteration
    <https://doi.org/10.1109/97.329844>`_, 1994 (KKZ).
  """
  length = jnp.linalg.norm(at_least_float32(tokens), axis=-1)
  return _medoids(tokens, jnp.argmax(length, -1), left, iterations)


def spectral_medoids(
  tokens: jax.Array, left: int, *, sigma: float = 2.0, iterations: int = 60
) -> Reduction:
  """Spectral clustering, whose centres are tokens.

  `k_medoids` of the rows, scaled to unit length, of the eigenvectors of the least eigenvalues of
  the normalised Laplacian of the graph ``exp(-|x - y|^2 / (2 sigma^2))``.

  Args:
    tokens: ``[batch, tokens, dim]``.
    left: number of clusters.
    sigma: width of the graph's kernel.
    iterations: at most so many.

  Returns:
    The reduction, as of `k_medoids`.

  Raises:
    ValueError: if there are fewer tokens than clusters.

  References:
    Zhao et al., `CenterCLIP: Token Clustering for Efficient Text-Video Retrieval
    <https://arxiv.org/abs/2205.00823>`_, 2022. The official code corrects the signs
    of eigenvectors, on which distances between rows do not depend, and starts from the longest of
    rows of unit length, which rounding decides; here from the one that is longest before.
  """
  check_left(left, tokens.shape[1])
  x = lax.stop_gradient(at_least_float32(tokens))
  graph = jnp.exp(-jax.vmap(squared_euclidean)(x, x) / (2 * sigma**2))
  scale = lax.rsqrt(jnp.sum(graph, -1))
  laplacian = jnp.eye(x.shape[1])[None] - graph * scale[:, :, None] * scale[:, None]
  rows = jnp.linalg.eigh(laplacian)[1][..., :left]
  first = jnp.argmax(jnp.linalg.norm(rows, axis=-1), -1)
  return _medoids(l2_normalize(rows), first, left, iterations)


def in_segments(
  choose: Callable[[jax.Array, int], Reduction], tokens: jax.Array, left: int, segments: int
) -> Reduction:
  """Chooses within segments of time, so that each moment of a clip has its share of tokens.

  Args:
    choose: ``(tokens [batch, n, dim], left) -> reduction``, such as `k_medoids`.
    tokens: ``[batch, tokens, dim]``, frame after frame.
    left: how many to leave of all.
    segments: of equal length; divides both numbers.

  Returns:
    The reduction of the whole.

  Raises:
    ValueError: if segments do not divide them.

  References:
    Zhao et al., `CenterCLIP: Token Clustering for Efficient Text-Video Retrieval
    <https://arxiv.org/abs/2205.00823>`_, 2022. There each segment is a sequence of its own
    afterwards.
  """
  batch, count, dim = tokens.shape
  if count % segments or left % segments:
    raise ValueError(
      f"segments={segments} has to divide {count} tokens and left={left}; choose another number"
    )
  own, few = count // segments, left // segments
  part = choose(tokens.reshape(batch * segments, own, dim), few)
  # A place within its segment, moved behind those of the segments before.
  number = jnp.arange(segments, dtype=jnp.int32)[None, :, None]
  place = lambda x, size: x.reshape(batch, segments, -1) + number * size
  whole = jnp.where(part.target.reshape(batch, segments, own) < 0, -1, place(part.target, few))
  return Reduction(place(part.kept, own).reshape(batch, left), whole.reshape(batch, count))


def _medoids(points, first, left, iterations):
  count = points.shape[1]
  points = lax.stop_gradient(at_least_float32(points))
  # A point is nearer to itself than to its double, so that no cluster is empty.
  diagonal = jnp.eye(count, dtype=bool)
  distances = jnp.where(diagonal[None], -1, jax.vmap(euclidean)(points, points))
  start = farthest_first(distances, first, left)

  def one(distance, start):
    nearest = lambda centres: jnp.argmin(distance[centres], 0)

    def step(carry):
      number, _, centres = carry
      cluster = nearest(centres)
      same = cluster[:, None] == cluster[None]
      cost = jnp.sum(jnp.where(same, distance, 0), 1)
      own = cluster[None] == jnp.arange(left)[:, None]
      return number + 1, centres, jnp.argmin(jnp.where(own, cost[None], jnp.inf), 1)

    changing = lambda carry: (carry[0] < iterations) & jnp.any(carry[1] != carry[2])
    centres = lax.while_loop(changing, step, (0, jnp.full(left, -1), start))[2]
    return centres[nearest(centres)]

  return reduction_into(jax.vmap(one)(distances, start.astype(int)), left)
