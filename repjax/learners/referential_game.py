"""A referential game: one net names what it sees by symbols, another picks what was meant."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from repjax.arrays import at_least_float32, l2_normalize
from repjax.augment import to_float
from repjax.encoders import Features
from repjax.learners.learner import Objective, apply_module, example_keys, init_module
from repjax.learners.spread import spread
from repjax.losses.layout import batch_mean, gather, row_index


def referential_game(
  speaker: nn.Module,
  listener: nn.Module,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  *,
  vocabulary: int,
  length: int,
  dim: int = 64,
  relaxation: float = 1.0,
  temperature: float = 0.1,
  within_class: bool = False,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of a speaker and a listener who come to agree on a language.

  .. math::
    m_i = \mathrm{onehot} \arg\max_v (a_{iv} + g_{iv}), \qquad
    \ell_i = -\frac{1}{|T_i|} \sum_{t \in T_i}
      \log \frac{\exp(\cos(h(m_i), u_t) / \tau)}{\sum_{j \in C_i} \exp(\cos(h(m_i), u_j) / \tau)}

  The speaker sees a view of an image and says a string of ``length`` symbols, each drawn from its
  logits a by Gumbel noise g; the listener reads the string by a linear layer h and scores its own
  views of the images of the whole batch, u. Backwards a symbol counts as the softmax of
  ``(a + g) / relaxation`` (straight through). In the game of instances the target T is the image
  that the speaker saw, and all are candidates C. Within classes the targets are the other images of
  its label, and the speaker's own is no candidate: only what a class shares is worth saying.

  Args:
    speaker: images ``[batch, height, width, channels]`` to `Features`.
    listener: likewise, with weights of its own.
    augment: ``(key, image) -> image`` for one image in [0, 1]; drawn for each of both.
    vocabulary: number of symbols.
    length: of a string; its symbols are said side by side, not one after another.
    dim: in which the listener compares.
    relaxation: temperature of the symbols' softmax in the gradient, > 0.
    temperature: tau, of the listener's choice, > 0.
    within_class: which game.
    normalize: last step before both encoders, in training and in ``encode``.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective. Within classes ``batch["label"]`` is ``[batch]`` int32; -1 is of no class, a
    candidate and never a target, and messages without a target do not count. ``encode`` says the
    likeliest string: ``pooled`` is it as one-hot vectors side by side, ``tokens`` the symbols'
    logits ``[batch, length, vocabulary]``, for `symbols`, and ``layers`` what the listener makes of
    the string and of the image, unit ``[batch, dim]`` each. Metrics are ``understood``, the share
    of messages whose best candidate is a target, and those of `spread`, of the logits.

  References:
    Kubricht et al., `Grounded Language Acquisition From Object and Action Imagery
    <https://arxiv.org/abs/2309.06335>`_, 2023, whose text was not at hand beyond its abstract: the
    nets and the form of the loss are ours.
    Havrylov and Titov, `Emergence of Language with Multi-agent Games: Learning to Communicate with
    Sequences of Symbols <https://arxiv.org/abs/1705.11192>`_, 2017 (straight-through symbols).
    Jang et al., `Categorical Reparameterization with Gumbel-Softmax
    <https://arxiv.org/abs/1611.01144>`_, 2016, section 2.2.
  """
  say = nn.Dense(length * vocabulary)
  read = nn.Dense(dim)
  look = nn.Dense(dim)

  def init(key, batch):
    keys = jax.random.split(key, 5)
    image = normalize(to_float(batch["image"]))
    params, rest = {}, {}
    layers = {"speaker": (speaker, "say", say), "listener": (listener, "look", look)}
    for i, (name, (encoder, layer_name, layer)) in enumerate(layers.items()):
      params[name], rest[name] = init_module(encoder, keys[i], image)
      pooled = encoder.apply({"params": params[name], **rest[name]}, image).pooled
      params[layer_name] = layer.init(keys[2 + i], pooled)["params"]
    params["read"] = read.init(keys[4], jnp.zeros((1, length * vocabulary)))["params"]
    return params, {"rest": rest}

  def speak(params, rest, image, *, train=False):
    """Logits of the symbols, ``[batch, length, vocabulary]``."""
    out, rest = apply_module(speaker, params["speaker"], rest, image, train=train)
    logits = at_least_float32(say.apply({"params": params["say"]}, out.pooled))
    return logits.reshape(-1, length, vocabulary), rest

  def compare(params, layer, name, x):
    return l2_normalize(at_least_float32(layer.apply({"params": params[name]}, x)))

  def listen(params, rest, image, *, train=False):
    out, rest = apply_module(listener, params["listener"], rest, image, train=train)
    return compare(params, look, "look", out.pooled), rest

  def loss(params, extra, batch, key):
    image, rest = to_float(batch["image"]), dict(extra["rest"])
    k_speaker, k_listener, k_symbols = jax.random.split(key, 3)
    each = lambda k: example_keys(k, len(image), axis_name=axis_name)
    seen = [normalize(jax.vmap(augment)(each(k), image)) for k in (k_speaker, k_listener)]
    logits, rest["speaker"] = speak(params, rest["speaker"], seen[0], train=True)
    noise = jax.vmap(lambda k: jax.random.gumbel(k, logits.shape[1:]))(each(k_symbols))
    said = _straight_through(logits + noise, relaxation).reshape(len(image), -1)
    heard = compare(params, read, "read", said)
    views, rest["listener"] = listen(params, rest["listener"], seen[1], train=True)

    row = row_index(len(image), axis_name)
    own = {"view": views, "row": row}
    if within_class:
      own["label"] = batch["label"]
    every = gather(own, axis_name)
    target, candidate = row[:, None] == every["row"][None], jnp.ones((1, 1), bool)
    if within_class:
      candidate = ~target
      target = candidate & (batch["label"][:, None] == every["label"][None])
      target = target & (batch["label"][:, None] >= 0)
    scores = jnp.matmul(heard, every["view"].T, precision="highest") / temperature
    scores = jnp.where(candidate, scores, -jnp.inf)
    count = jnp.sum(target, 1)
    log_p = jax.nn.log_softmax(scores, 1)
    picked = -jnp.sum(jnp.where(target, log_p, 0), 1) / jnp.maximum(count, 1)
    best = jnp.take_along_axis(target, jnp.argmax(scores, 1)[:, None], 1)[:, 0]
    mean = lambda x: batch_mean(x, axis_name, where=count > 0)
    metrics = {"understood": mean(best.astype(jnp.float32))}
    metrics |= spread(logits.reshape(len(image), -1), axis_name=axis_name)
    return mean(picked), ({"rest": rest}, metrics)

  def encode(params, extra, image):
    image = normalize(to_float(image))
    logits, _ = speak(params, extra["rest"]["speaker"], image)
    said = jax.nn.one_hot(jnp.argmax(logits, -1), vocabulary).reshape(len(image), -1)
    views, _ = listen(params, extra["rest"]["listener"], image)
    return Features(said, logits, (compare(params, read, "read", said), views))

  return Objective(init, loss, encode)


def symbols(features: Features) -> jax.Array:
  """The strings that a speaker says of images.

  Args:
    features: by the ``encode`` of `referential_game`.

  Returns:
    ``[batch, length]`` int32.
  """
  return jnp.argmax(features.tokens, -1).astype(jnp.int32)


def _straight_through(logits: jax.Array, relaxation: float) -> jax.Array:
  """The likeliest symbols as one-hot vectors, with the gradient of a softmax."""
  soft = jax.nn.softmax(logits / relaxation)
  hard = jax.nn.one_hot(jnp.argmax(logits, -1), logits.shape[-1], dtype=soft.dtype)
  return hard + (soft - lax.stop_gradient(soft))
