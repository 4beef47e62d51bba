"""Losses of prefixes: sentence-transformers' answer, and which arguments are cut."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from libraries import answers, check_answer

from repjax.losses import contrastive, distill
from repjax.losses.nested import matryoshka

RNG = np.random.default_rng(0)
Z_1, Z_2 = RNG.normal(size=(2, 9, 6)).astype(np.float32)

ranking = functools.partial(contrastive.info_nce, temperature=0.2)
# What other libraries take the mean of, by the name of the answer.
SAME_AS = {"info_nce_sentence_transformers": matryoshka(ranking, [5, 4, 2], [1.0, 0.5, 0.3])}


def prototype_loss(embeddings, labels, prototypes, *, scale=1.0):
  """Cross entropy of classes with one prototype each."""
  logits = scale * jnp.matmul(embeddings, prototypes.T, precision="highest")
  return distill.soft_labels(logits, 1e3 * jnp.eye(len(prototypes))[labels], temperature=1.0)


@pytest.mark.parametrize("answer", answers("nested"))
def test_loss_equals_another_library(answer):
  loss = SAME_AS[answer.rpartition("_")[0]]
  check_answer("nested", answer, lambda **arrays: jnp.mean(loss(**arrays)))


def test_the_whole_length_alone_is_the_loss_itself():
  ours = matryoshka(contrastive.nt_xent, [6])(Z_1, Z_2)
  np.testing.assert_array_equal(ours, contrastive.nt_xent(Z_1, Z_2))


def test_arguments_may_be_given_by_place_or_by_name():
  loss = matryoshka(contrastive.nt_xent, [6, 3])
  wanted = contrastive.nt_xent(Z_1, Z_2) + contrastive.nt_xent(Z_1[:, :3], Z_2[:, :3])
  np.testing.assert_allclose(loss(Z_1, Z_2), wanted, rtol=1e-6)
  np.testing.assert_allclose(loss(Z_1, z_2=Z_2), wanted, rtol=1e-6)
  np.testing.assert_allclose(loss(z_2=Z_2, z_1=Z_1, tile_size=4), wanted, rtol=1e-5)


def test_prototypes_are_cut_and_labels_are_not():
  labels, prototypes = np.arange(9) % 4, RNG.normal(size=(4, 6)).astype(np.float32)
  ours = matryoshka(prototype_loss, [6, 2], [1.0, 0.1])(Z_1, labels, prototypes, scale=2.0)
  parts = (prototype_loss(Z_1[:, :m], labels, prototypes[:, :m], scale=2.0) for m in (6, 2))
  np.testing.assert_allclose(ours, next(parts) + 0.1 * next(parts), rtol=1e-5)


def test_named_arguments_alone_may_be_cut():
  def loss(embeddings, scores, queue=None):
    assert queue is None
    return jnp.sum(embeddings, 1) + jnp.sum(scores, 1)

  scores = np.ones((9, 6), np.float32)
  ours = matryoshka(loss, [2], embeddings=["embeddings", "queue"])(Z_1, scores)
  np.testing.assert_allclose(ours, Z_1[:, :2].sum(1) + 6, rtol=1e-5)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: matryoshka(contrastive.dcl, []), r"sizes >= 1 with a weight each, got \(\)"),
    (lambda: matryoshka(contrastive.dcl, [0, 2]), r"got \(0, 2\)"),
    (lambda: matryoshka(contrastive.dcl, [2, 4], [1.0]), r"\(2, 4\) and \(1.0,\)"),
    (lambda: matryoshka(contrastive.dcl, [2], embeddings=["z"]), r"no arguments \['z'\].*'z_1'"),
    (lambda: matryoshka(contrastive.dcl, [8])(Z_1, Z_2), r"sizes \(8,\).*'z_1': \(9, 6\)"),
  ],
)
def test_what_does_not_fit_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
