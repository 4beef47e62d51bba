"""Latent label shift: mixtures and posteriors that are known, found again without a label."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.heads import LatentShift, fit_latent_shift, latent_shift_logits

RNG = np.random.default_rng(0)
# p(word | class): two anchors a class, which no discriminator tells apart, and two shared words.
WORDS = (
  np.array([[5, 3, 0, 0, 0, 0, 1, 1], [0, 0, 4, 3, 0, 0, 2, 1], [0, 0, 0, 0, 6, 2, 0, 2]]) / 10
)
MIXTURE = np.array([[1, 0, 0], [0.02, 0.98, 0], [0, 0.01, 0.99], [0.3, 0.2, 0.5]])
SIZE = np.array([2000, 4000, 3000, 1000])


def drawn():
  """Examples of all domains, and what a perfect discriminator says of them."""
  domain = np.repeat(np.arange(4), SIZE)
  label = np.array([RNG.choice(3, p=MIXTURE[d]) for d in domain])
  word = np.array([RNG.choice(8, p=WORDS[y]) for y in label])
  joint = (MIXTURE @ WORDS) * SIZE[:, None]
  oracle = (joint / joint.sum(0, keepdims=True)).T
  return word, domain, oracle


def test_mixtures_and_posteriors_are_found_up_to_the_order_of_classes():
  word, domain, oracle = drawn()
  found = fit_latent_shift(oracle[word], domain, classes=3, cells=5, seed=0)
  mixture = np.asarray(found.class_given_domain)
  order = mixture[:3].argmax(0)
  assert sorted(order) == [0, 1, 2]
  np.testing.assert_allclose(mixture[:, np.argsort(order)], MIXTURE, atol=0.06)
  logits = latent_shift_logits(found, jnp.asarray(oracle[word], jnp.float32), jnp.asarray(domain))
  said = np.asarray(jax.nn.softmax(logits))[:, np.argsort(order)]
  posterior = MIXTURE[domain] * WORDS.T[word]
  posterior /= posterior.sum(1, keepdims=True)
  assert np.mean(np.abs(said - posterior)) < 0.03


def test_posteriors_are_those_of_bayes_where_the_mixtures_are_right():
  word, domain, oracle = drawn()
  joint = MIXTURE * SIZE[:, None]
  shift = LatentShift(*(jnp.asarray(x, jnp.float32) for x in (MIXTURE, joint / joint.sum(0)[None])))
  likely = WORDS.T[word] > 0  # what cannot be is held at a small number
  posterior = MIXTURE[domain] * WORDS.T[word]
  posterior /= posterior.sum(1, keepdims=True)
  logits = latent_shift_logits(shift, jnp.asarray(oracle[word], jnp.float32), jnp.asarray(domain))
  np.testing.assert_allclose(jax.nn.softmax(logits) * likely, posterior, atol=2e-4)


def test_what_cannot_be_found_is_refused():
  with pytest.raises(ValueError, match=r"classes=3 by cells=5 in domains of \[2, 2\]"):
    fit_latent_shift(np.ones((4, 2)), np.array([0, 0, 1, 1]), classes=3, cells=5, seed=0)
  shift = LatentShift(jnp.ones((4, 3)), jnp.ones((4, 3)))
  with pytest.raises(ValueError, match=r"\[batch, 4\] .* got \(2, 3\) and \(2,\)"):
    latent_shift_logits(shift, jnp.ones((2, 3)), jnp.zeros(2, int))
