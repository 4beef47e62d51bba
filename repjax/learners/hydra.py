"""Hydra: any two images are a positive pair, in a subspace that their classes' gate opens."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.encoders import MLP
from repjax.learners.learner import Objective
from repjax.learners.network import Network
from repjax.learners.views import Crops, joint_embedding
from repjax.losses import gated_info_nce
from repjax.losses.layout import batch_mean, gather, row_index, shards


class PairGates(nn.Module):
  """A gate for each unordered pair of classes.

  The mean of the two classes' embeddings goes through a small net and a sigmoid, as in the authors'
  code, which has batch norm in between.

  Attributes:
    classes: how many there are.
    dims: width of the embeddings, widths of the hidden layers, and last that of a gate.
  """

  classes: int
  dims: Sequence[int]

  @nn.compact
  def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
    """Opens gates.

    Args:
      first: ``[batch]`` integers, classes; of negative ones comes what is to be masked.
      second: ``[batch]`` integers, likewise.

    Returns:
      ``[batch, dims[-1]]`` in (0, 1).
    """
    embed = nn.Embed(self.classes, self.dims[0], embedding_init=nn.initializers.normal(1.0))
    mean = (embed(jnp.maximum(first, 0)) + embed(jnp.maximum(second, 0))) / 2
    return nn.sigmoid(MLP(self.dims[1:])(nn.relu(mean)))


def hydra(
  encoder: nn.Module,
  projector: nn.Module,
  gates: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  temperature: float = 0.1,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of contrast between arbitrary pairs.

  Each step deals the examples that have a label new partners at random, of whatever class: the
  first view of an example is to pick the second view of its partner, both seen through the gate of
  their two classes. Examples of neither class are negatives, as in the authors' code, which
  averages over all partners of the second class.

  Args:
    encoder: images ``[batch, height, width, channels]`` to `Features`.
    projector: ``[batch, dim] -> [batch, proj]``; dropped after training.
    gates: ``(class, class) -> gate [batch, proj]``, such as `PairGates`; parameters alone.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn twice per example.
    temperature: softmax temperature, > 0.
    normalize: last step before the encoder, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any; partners come from all of it.

  Returns:
    The objective; ``batch["label"]`` is ``[batch]`` int32, and an example of -1 takes part in
    nothing. Its parameters have ``gates`` beside those of the network.

  References:
    Wu et al., `Rethinking Positive Pairs in Contrastive Learning
    <https://arxiv.org/abs/2410.18200>`_, 2024.
  """

  def loss(seen):
    label = seen.batch["label"]
    whole = gather((seen.online[1].projected, label), axis_name)
    partner = jax.random.permutation(seen.key, len(label) * shards(axis_name))
    partner = partner[row_index(len(label), axis_name)]
    key, other = (x[partner] for x in whole)
    where = (label >= 0) & (other >= 0)
    gate = gates.apply({"params": seen.params["gates"]}, label, other)
    options = {"temperature": temperature, "where": where, "axis_name": axis_name}
    options |= {"query_labels": label, "key_labels": other}
    per_pair = gated_info_nce(seen.online[0].projected, key, gate, **options)
    return batch_mean(per_pair, axis_name, where=where)

  objective = joint_embedding(
    Network(encoder, projector),
    [Crops(augment, 2)],
    loss,
    normalize=normalize,
    axis_name=axis_name,
  )

  def init(key, batch):
    key, k_gates = jax.random.split(key)
    params, extra = objective.init(key, batch)
    label = batch["label"]
    return params | {"gates": gates.init(k_gates, label, label)["params"]}, extra

  return objective._replace(init=init)
