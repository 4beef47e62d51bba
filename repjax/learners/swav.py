"""SwAV: predict to which prototypes another view of the image is assigned."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax import losses
from repjax.arrays import at_least_float32, l2_normalize
from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.queue import own_rows, push, start_queue
from repjax.learners.views import Crops, joint_embedding
from repjax.losses.layout import shards


def swav(
  encoder: nn.Module,
  projector: nn.Module,
  prototypes: nn.Module,
  crops: Sequence[Crops],
  *,
  temperature: float = 0.1,
  epsilon: float = 0.05,
  iterations: int = 3,
  queue_size: int = 0,
  queue_start: int = 0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of SwAV.

  The paper's code holds the prototypes still for the first few hundred steps; that is the
  optimizer's to do.

  Args:
    encoder: images ``[batch, height, width, channels]`` of every size of crop to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``.
    prototypes: ``[batch, proj] -> [batch, prototypes]`` cosines, such as `Prototypes`; without
      state.
    crops: the global ones, two in the paper, which are assigned and predicted, then the local ones,
      which only predict.
    temperature: of the predictions, > 0.
    epsilon: weight of the entropy in the assignments, > 0.
    iterations: of the balancing.
    queue_size: embeddings of earlier batches that join in the balancing, one such queue for each
      global view, at least a batch; none at 0. For batches of few examples a prototype.
    queue_start: step from which on they join in, and not before the queue is full.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any; its shards divide the queue.

  Returns:
    The objective. Each global view is assigned by itself, as in the paper's code.

  References:
    Caron et al., `Unsupervised Learning of Visual Features by Contrasting Cluster Assignments
    <https://arxiv.org/abs/2006.09882>`_, 2020, section 3 and appendix A; queue as in `main_swav.py
    <https://github.com/facebookresearch/swav>`_.
  """
  assigned = range(crops[0].count)

  def assign(seen, view):
    scores, where = seen.online[view].predicted, None
    batch = len(scores)
    if queue_size:
      # A shard balances its own part of the queue, so that no row counts twice.
      rows = own_rows(seen.memory[view], axis_name)
      earlier = prototypes.apply({"params": seen.params["predictor"]}, rows)
      scores = jnp.concatenate([scores, earlier])
      full = seen.step * batch * shards(axis_name) >= queue_size
      joins = full & (seen.step >= queue_start)
      where = jnp.concatenate([jnp.ones(batch, bool), jnp.full(len(rows), joins)])
    balanced = losses.sinkhorn(
      scores, epsilon=epsilon, iterations=iterations, where=where, axis_name=axis_name
    )
    return balanced[:batch]

  def loss(seen):
    scores = jnp.stack([view.predicted for view in seen.online])
    assignments = jnp.stack([assign(seen, view) for view in assigned])
    return jnp.mean(losses.swav(scores, assignments, temperature=temperature))

  def memory(key, target):
    dim = target.projected.shape[-1]
    return tuple(start_queue(k, queue_size, dim) for k in jax.random.split(key, len(assigned)))

  def remember(seen):
    rows = [l2_normalize(at_least_float32(seen.target[view].projected)) for view in assigned]
    pairs = zip(seen.memory, rows, strict=True)
    return tuple(push(queue, new, axis_name=axis_name) for queue, new in pairs)

  return joint_embedding(
    Network(encoder, projector, prototypes),
    crops,
    loss,
    normalize=normalize,
    memory=memory if queue_size else None,
    remember=remember,
    axis_name=axis_name,
  )
