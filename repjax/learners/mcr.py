"""MCR: two modalities that compete for the prediction, each made to change it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from repjax import losses
from repjax.arrays import cross_entropy
from repjax.encoders import Features
from repjax.learners.learner import Objective, apply_module, labelled_mean


class Fusion(nn.Module):
  """Logits of two latents: a head of each and, after both are added, more layers if wanted.

  Attributes:
    classes: number of classes.
    hidden: width of the layer in which the heads meet; None to add logits.
  """

  classes: int
  hidden: int | None = None

  @nn.compact
  def __call__(self, z_1: jax.Array, z_2: jax.Array) -> jax.Array:
    """Maps two ``[batch, any]`` to ``[batch, classes]``."""
    width = self.hidden or self.classes
    x = nn.Dense(width, name="head_1")(z_1) + nn.Dense(width, use_bias=False, name="head_2")(z_2)
    return nn.Dense(self.classes, name="out")(nn.relu(x)) if self.hidden else x


class _Network(nn.Module):
  encoder_1: nn.Module
  encoder_2: nn.Module
  fusion: nn.Module
  hidden: int

  @nn.compact
  def __call__(self, x_1, x_2, orders=None, *, train=False):
    z_1, z_2 = (
      getattr(z, "pooled", z)
      for z in (self.encoder_1(x_1, train=train), self.encoder_2(x_2, train=train))
    )
    logits = self.fusion(z_1, z_2)
    told = nn.relu(nn.Dense(self.hidden, use_bias=False, name="told")(lax.stop_gradient(logits)))
    expected = nn.Dense(z_1.shape[-1] + z_2.shape[-1], use_bias=False, name="expected")(told)
    if orders is None:
      return (z_1, z_2), logits, expected, None
    still = lax.stop_gradient
    moved_1, moved_2 = orders[0](z_1), orders[1](z_2)
    # By whose latent is exchanged, then by who is told: (exchanged one, the other).
    swapped = (
      (self.fusion(moved_1, still(z_2)), self.fusion(still(moved_1), z_2)),
      (self.fusion(still(z_1), moved_2), self.fusion(z_1, still(moved_2))),
    )
    return (z_1, z_2), logits, expected, swapped


def mcr(
  encoders: Sequence[nn.Module],
  fusion: nn.Module,
  *,
  fields: Sequence[str] = ("first", "second"),
  weight: float | jax.Array = 1.0,
  rivalry: float | jax.Array = 1.0,
  contrast: float | jax.Array = 0.1,
  temperature: float = 0.5,
  bottleneck: float | jax.Array = 0.01,
  hidden: int = 64,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of the multimodal competition regularizer.

  With the latents of modality m exchanged among the examples of a batch, the prediction changes
  by :math:`J_m`, a Jensen-Shannon divergence: what m alone tells of the label. The loss is

  .. math::
    \mathrm{CE} - \lambda \sum_m \big(J_m|_m - \rho J_m|_{\bar m}\big) + \lambda_c L_{con}
    + \lambda_b L_{CEB}

  where :math:`|_m` lets the gradient into the latent of m alone. Each modality makes its own
  exchange matter and, as a rival, that of the other matter less (``rivalry`` 1, "greedy" in the
  code; 0 is "independent"). :math:`L_{con}` is the supervised contrastive loss of all latents of a
  batch, :math:`L_{CEB}` the squared error of latents that are told from the prediction, which holds
  what of them the label does not need near nothing.

  Args:
    encoders: two modules, inputs to `Features` or ``[batch, dim]``, of one width.
    fusion: ``(z_1, z_2) -> logits``, such as `Fusion`.
    fields: of the batch that the modalities are in; ``label`` holds labels, -1 where there is none.
    weight: of the exchanges, lambda.
    rivalry: rho, in [0, 1].
    contrast: of the contrastive loss.
    temperature: of the contrastive loss; 0.5 in the code.
    bottleneck: of the conditional entropy bottleneck.
    hidden: width of the layer between prediction and expected latents.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. ``encode`` takes a mapping with both fields; ``pooled`` is both latents side by
    side, ``layers`` the logits. Metrics include ``exchange_1`` and ``exchange_2``.

  References:
    Kontras et al., `Balancing Multimodal Training Through Game-Theoretic Regularization
    <https://arxiv.org/abs/2411.07335>`_, 2024, and `code <https://github.com/kkontras/MCR>`_,
    ``Bias_Infusion_MCR``, whose signs and stopped gradients are followed; it stops gradients behind
    the heads, this in front of them. The paper's equations were not at hand.
  """
  network = _Network(*encoders, fusion, hidden)

  def init(key, batch):
    variables = network.init(key, *(batch[field] for field in fields))
    return variables["params"], {k: v for k, v in variables.items() if k != "params"}

  def loss(params, extra, batch, key):
    label = batch["label"]
    orders = [exchange(k, len(label), axis_name) for k in jax.random.split(key)]
    sides = [batch[field] for field in fields]
    told, extra = apply_module(network, params, extra, *sides, orders, train=True)
    latents, logits, expected, swapped = told
    task = labelled_mean(label, axis_name=axis_name)(cross_entropy(logits, label))
    changes = [[jnp.mean(divergence(logits, other)) for other in pair] for pair in swapped]
    game = sum(rivalry * other - own for own, other in changes)
    both = jnp.concatenate(latents), jnp.concatenate([label, label])
    shared = jnp.mean(losses.sup_con(*both, temperature=temperature, axis_name=axis_name))
    excess = jnp.mean((jnp.concatenate(latents, -1) - expected) ** 2)
    value = task + weight * game + contrast * shared + bottleneck * excess
    metrics = {"task": task, "exchange_1": changes[0][0], "exchange_2": changes[1][0]}
    return value, (extra, metrics)

  def encode(params, extra, inputs):
    sides = [inputs[field] for field in fields]
    (latents, logits, *_), _ = apply_module(network, params, extra, *sides)
    z = jnp.concatenate(latents, -1)
    return Features(z, jnp.stack(latents, 1), (logits,))

  return Objective(init, loss, encode)


def exchange(key: jax.Array, rows: int, axis_name: str | None = None):
  """Draws who gets whose latent, in a batch that may lie on several devices.

  Args:
    key: the same for all shards.
    rows: of this shard.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    ``[rows, ...] -> [rows, ...]``.
  """
  if axis_name is None:
    order = jax.random.permutation(key, rows)
    return lambda z: z[order]
  total = rows * lax.axis_size(axis_name)
  first = lax.axis_index(axis_name) * rows
  order = lax.dynamic_slice_in_dim(jax.random.permutation(key, total), first, rows)
  return lambda z: lax.all_gather(z, axis_name, tiled=True)[order]


def divergence(logits_1: jax.Array, logits_2: jax.Array) -> jax.Array:
  r"""Jensen-Shannon divergence of two predictions.

  .. math:: \tfrac12 KL(p \| m) + \tfrac12 KL(q \| m), \qquad m = \tfrac12 (p + q)

  Args:
    logits_1: ``[batch, classes]``.
    logits_2: ``[batch, classes]``.

  Returns:
    ``[batch]``, nats, in [0, log 2].
  """
  log_p, log_q = jax.nn.log_softmax(logits_1), jax.nn.log_softmax(logits_2)
  log_m = jnp.logaddexp(log_p, log_q) - jnp.log(2.0)
  kl = lambda log_a: jnp.sum(jnp.exp(log_a) * (log_a - log_m), -1)
  return (kl(log_p) + kl(log_q)) / 2
