"""cMIM: an autoencoder whose codes tell examples apart, without augmentation."""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from repjax.arrays import at_least_float32
from repjax.augment import to_float
from repjax.encoders import Features, Gaussian
from repjax.learners.learner import Objective, apply_module, example_keys, init_module
from repjax.learners.spread import spread
from repjax.losses import averaged_info_nce


class _Network(nn.Module):
  encoder: nn.Module
  decoder: nn.Module

  def __call__(self, x, keys=None, *, train=False):
    """Distribution, two samples of the code, or its mean without keys, and the first decoded."""
    q = self.encoder(x, train=train)
    codes = q.mean, q.mean
    if keys is not None:
      draw = lambda key: jax.random.normal(key, (2, q.mean.shape[-1]))
      noise = jax.vmap(draw)(keys)
      codes = tuple(q.mean + jnp.exp(q.log_std) * noise[:, i] for i in range(2))
    return q, codes, self.decoder(codes[0], train=train)


def cmim(
  encoder: nn.Module,
  decoder: nn.Module,
  *,
  likelihood: float = 1.0,
  posterior: float = 0.5,
  prior: float = 0.5,
  contrast: float = 1.0,
  temperature: float = 0.1,
  contrastive: Callable[..., jax.Array] = averaged_info_nce,
  embedding: Literal["latent", "informative"] = "latent",
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of cMIM.

  With two samples :math:`z, z'` of the code of an input,

  .. math::
    \ell = -\log p(x \mid z) - \tfrac{1}{2}\left(\log q(z \mid x) + \log P(z)\right)
      + \ell_\text{contrast}(z, z')

  Other weights give its relatives: ``contrast=0`` is MIM, in its asymmetric form; with
  ``posterior=-1, prior=1`` besides, the variational autoencoder. Both versions of the paper have
  this loss.

  Args:
    encoder: images ``[batch, height, width, channels]`` to the `Gaussian` of their codes.
    decoder: ``[batch, latent]`` to `Decoded`; its ``output`` are logits of pixels in [0, 1].
    likelihood: weight of :math:`\log p(x \mid z)`, the sum over pixels of Bernoulli's.
    posterior: weight of :math:`\log q(z \mid x)`.
    prior: weight of :math:`\log P(z)`, the standard normal.
    contrast: weight of the contrastive term.
    temperature: its softmax temperature, > 0.
    contrastive: ``(query, key, temperature=, axis_name=) -> [batch]``.
    embedding: what features are: the ``latent`` mean, or the ``informative`` embedding, the mean
      over places of the decoder's hidden states given that code; any trained autoencoder has it.
    normalize: last step before the encoder, in training and in ``encode``. What is decoded is the
      image in [0, 1].
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. Its metrics have the terms: ``log_likelihood``, ``log_posterior``, ``log_prior``
    and ``contrastive``, means in nats.

  Raises:
    ValueError: if ``embedding`` is unknown.

  References:
    Livne, `cMIM: A Contrastive Mutual Information Framework for Unified Generative and
    Discriminative Representation Learning <https://arxiv.org/abs/2502.19642>`_, 2025.
    Livne, `Contrastive Mutual Information Learning: Toward Robust Representations without
    Positive-Pair Augmentations <https://arxiv.org/abs/2509.21511>`_, 2025.
    Livne et al., `MIM: Mutual Information Machine <https://arxiv.org/abs/1910.03175>`_, 2019.
    Kingma and Welling, `Auto-Encoding Variational Bayes <https://arxiv.org/abs/1312.6114>`_, 2013.
  """
  if embedding not in ("latent", "informative"):
    raise ValueError(f"embedding={embedding!r} is unknown; choose 'latent' or 'informative'")
  network = _Network(encoder, decoder)

  def init(key, batch):
    return init_module(network, key, normalize(to_float(batch["image"])))

  def loss(params, extra, batch, key):
    image = to_float(batch["image"])
    keys = example_keys(key, len(image), axis_name=axis_name)
    (q, (z_1, z_2), decoded), extra = apply_module(
      network, params, extra, normalize(image), keys, train=True
    )
    standard = Gaussian(jnp.zeros_like(q.mean), jnp.zeros_like(q.mean))
    terms = {
      "log_likelihood": _bernoulli(decoded.output, image),
      "log_posterior": _normal(z_1, q),
      "log_prior": _normal(z_1, standard),
      "contrastive": contrastive(z_1, z_2, temperature=temperature, axis_name=axis_name),
    }
    terms = {name: jnp.mean(x) for name, x in terms.items()}
    value = -likelihood * terms["log_likelihood"] + contrast * terms["contrastive"]
    value = value - posterior * terms["log_posterior"] - prior * terms["log_prior"]
    return value, (extra, terms | spread(q.mean, axis_name=axis_name))

  def encode(params, extra, image):
    (q, _, decoded), _ = apply_module(network, params, extra, normalize(to_float(image)))
    pooled = q.mean if embedding == "latent" else jnp.mean(decoded.hidden, 1)
    return Features(pooled, decoded.hidden, (decoded.output,))

  return Objective(init, loss, encode)


def _bernoulli(logits, pixels) -> jax.Array:
  """Log-likelihood of each image, summed over pixels in [0, 1]."""
  logits = at_least_float32(logits)
  per_pixel = pixels * logits - jax.nn.softplus(logits)
  return jnp.sum(per_pixel.reshape(len(pixels), -1), -1)


def _normal(z, q) -> jax.Array:
  """Log-density of each code."""
  z, mean, log_std = map(at_least_float32, (z, *q))
  squares = jnp.square((z - mean) * jnp.exp(-log_std))
  return -jnp.sum(squares / 2 + log_std + math.log(2 * math.pi) / 2, -1)
