"""SepCLR: what two data sets share in one code, what only one of them has in another."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.arrays import at_least_float32
from repjax.augment import to_float
from repjax.encoders import Features
from repjax.learners.learner import (
  Objective,
  apply_module,
  example_keys,
  init_module,
  join_views,
  part_views,
)
from repjax.learners.network import Embedding, Network
from repjax.learners.spread import spread
from repjax.losses import alignment, joint_entropy, uniformity
from repjax.losses.layout import batch_mean


class Separation(nn.Module):
  """A network for what is common and one for what is salient.

  Attributes:
    common: sees what background and target share.
    salient: sees what only the target has.
  """

  common: Network
  salient: Network

  def __call__(self, image: jax.Array, *, train: bool = False) -> tuple[Embedding, Embedding]:
    """Embeds images twice.

    Args:
      image: ``[batch, height, width, channels]``, normalised.
      train: whether batch norm uses the batch's statistics.

    Returns:
      The common and the salient embedding.
    """
    return self.common(image, train=train), self.salient(image, train=train)


def sepclr(
  network: Separation,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  uniformity_weight: float = 2.0,
  salient_weight: float = 1000.0,
  pin_weight: float = 1000.0,
  entropy_weight: float = 10.0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of SepCLR with k-JEM.

  With :math:`c` the common code of unit length and :math:`s` the salient one,

  .. math::
    L = A(c) + u\,U(c) + \lambda_s \bigl(A_{\text{target}}(s) + u\,U(\bar s)\bigr)
      + \lambda_p \overline{\lVert s \rVert^2}_{\text{background}} + \lambda_e J(c, \bar s)

  where :math:`A` is the squared distance of an example's two views, :math:`U` the uniformity of a
  view, :math:`\bar s` the salient code with 0 in place of a background example's, and :math:`J`
  the negative joint entropy, all means of the two views. The pin holds a background example's
  salient code at 0.

  ``batch["target"]`` is ``[batch]`` bool, false for background; a batch needs some of each.

  Args:
    network: encoder and projector of either code; the salient projection is not normalised.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn twice per example.
    uniformity_weight: :math:`u`.
    salient_weight: :math:`\lambda_s`; 1,000 in the authors' run on digits over CIFAR-10.
    pin_weight: :math:`\lambda_p`; 1,000 there.
    entropy_weight: :math:`\lambda_e`; 10 there.
    normalize: last step before the encoders, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. Features are the common ones and, behind them in the last axis, the salient
    ones. Its metrics are those of `spread`, of the salient features, and ``pin``, the mean squared
    length of a background example's salient code.

  References:
    Louiset et al., `Separating common from salient patterns with Contrastive Representation
    Learning <https://arxiv.org/abs/2402.11928>`_, 2024, section 3; we follow ``cifar_mnist`` of
    the `authors' code <https://github.com/neurospin-projects/2024_rlouiset_sep_clr>`_.
  """

  def init(key, batch):
    return init_module(network, key, normalize(to_float(batch["image"])))

  def loss(params, extra, batch, key):
    image, target = to_float(batch["image"]), batch["target"]
    keys = [example_keys(k, len(image), axis_name=axis_name) for k in jax.random.split(key)]
    views = normalize(join_views([jax.vmap(augment)(k, image) for k in keys]))
    (common, salient), extra = apply_module(network, params, extra, views, train=True)
    c_1, c_2 = part_views(at_least_float32(common.projected), 2)
    s_1, s_2 = part_views(at_least_float32(salient.projected), 2)
    mean = lambda x, where=None: batch_mean(x, axis_name, where=where)

    # Both kernels of the code are exp(-|x - y|^2): their width tau of 0.5 is t = 1 here.
    def spread_out(z, unit):
      return uniformity(z, t=1.0, normalize=unit, axis_name=axis_name)

    agree = mean(alignment(c_1, c_2))
    of_common = agree + uniformity_weight * (spread_out(c_1, True) + spread_out(c_2, True)) / 2

    pinned = [jnp.where(target[:, None], s, 0) for s in (s_1, s_2)]
    agree = mean(alignment(s_1, s_2, normalize=False), target)
    apart = sum(spread_out(s, False) for s in pinned) / 2
    of_salient = agree + uniformity_weight * apart
    pin = sum(mean(jnp.sum(s * s, -1), ~target) for s in (s_1, s_2)) / 2
    together = [
      mean(joint_entropy(c, s, axis_name=axis_name))
      for c, s in zip((c_1, c_2), pinned, strict=True)
    ]
    value = (
      of_common
      + salient_weight * of_salient
      + pin_weight * pin
      + entropy_weight * sum(together) / 2
    )
    first = part_views(salient.features.pooled, 2)[0]
    return value, (extra, {"pin": pin, **spread(first, axis_name=axis_name)})

  def encode(params, extra, image):
    image = normalize(to_float(image))
    (common, salient), _ = apply_module(network, params, extra, image)
    pair = (common.features, salient.features)
    both = lambda name: jnp.concatenate([getattr(x, name) for x in pair], -1)
    return Features(both("pooled"), both("tokens"), pair[0].layers + pair[1].layers)

  return Objective(init, loss, encode)
