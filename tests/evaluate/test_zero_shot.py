"""Zero-shot: the definition in float64, templates, anchors that relate two spaces."""

import jax
import numpy as np
import pytest
from sklearn.metrics import log_loss, top_k_accuracy_score

from repjax.evaluate import (
  Embedded,
  class_embeddings,
  relative_to_anchors,
  zero_shot,
  zero_shot_by_anchors,
)

RNG = np.random.default_rng(0)
LABEL = RNG.integers(0, 7, 60).astype(np.int32)
CENTRES = RNG.normal(size=(7, 8))
IMAGES = Embedded((CENTRES[LABEL] + RNG.normal(size=(60, 8))).astype("f"), LABEL)
TEXT = (CENTRES[:, None] + 0.5 * RNG.normal(size=(7, 3, 8))).astype("f")


def unit(x):
  x = np.asarray(x, np.float64)
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_accuracies_and_loss_are_those_of_scikit_learn():
  logits = unit(IMAGES.features) @ unit(unit(TEXT).mean(1)).T / 0.1
  ours = zero_shot(IMAGES, IMAGES, text=TEXT, temperature=0.1, ks=(1, 3, 5, 9))
  assert list(ours) == ["zero_shot_top1", "zero_shot_top3", "zero_shot_top5", "zero_shot_nll"]
  for k in (1, 3, 5):
    assert ours[f"zero_shot_top{k}"] == top_k_accuracy_score(LABEL, logits, k=k)
  share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  assert ours["zero_shot_nll"] == pytest.approx(log_loss(LABEL, share), abs=1e-5)


def test_lengths_of_images_and_texts_and_the_order_of_templates_change_nothing():
  ours = zero_shot(IMAGES, IMAGES, text=TEXT)
  scaled = IMAGES._replace(features=4 * IMAGES.features)
  assert zero_shot(scaled, scaled, text=TEXT[:, ::-1] / 8) == pytest.approx(ours, abs=1e-5)
  one = np.asarray(class_embeddings(TEXT))
  assert zero_shot(IMAGES, IMAGES, text=one) == pytest.approx(ours, abs=1e-5)


def asif(x, anchors, kept, exponent):
  rows = []
  for cosine in unit(x) @ unit(anchors).T:
    rows.append(np.zeros(len(anchors)))
    for j in np.argsort(-cosine, kind="stable")[:kept]:
      rows[-1][j] = max(cosine[j], 0) ** exponent
  return unit(rows)


def test_relative_representations_are_those_of_a_loop_over_anchors():
  anchors = RNG.normal(size=(40, 8)).astype("f")
  ours = jax.jit(relative_to_anchors, static_argnames="kept")(
    IMAGES.features, anchors, kept=6, exponent=8.0
  )
  np.testing.assert_allclose(ours, asif(IMAGES.features, anchors, 6, 8), atol=1e-5)
  assert np.all(np.count_nonzero(ours, axis=1) <= 6)


def test_images_and_texts_of_two_spaces_meet_in_terms_of_paired_anchors():
  names = RNG.integers(0, 7, 200)
  turn, _ = np.linalg.qr(RNG.normal(size=(8, 8)))  # the texts' space is another one
  image = (CENTRES[names] + 0.7 * RNG.normal(size=(200, 8))).astype("f")
  text = ((CENTRES[names] + 0.7 * RNG.normal(size=(200, 8))) @ turn).astype("f")
  options = {"text": TEXT @ turn.astype("f"), "kept": 20, "exponent": 4.0, "ks": (1,)}
  ours = zero_shot_by_anchors(IMAGES, IMAGES, image_anchors=image, text_anchors=text, **options)
  classes = unit(unit(options["text"]).mean(1))
  logits = asif(IMAGES.features, image, 20, 4) @ asif(classes, text, 20, 4).T
  assert ours["asif_top1"] == np.mean(logits.argmax(1) == LABEL)
  # Anchors that are not paired tell nothing.
  apart = zero_shot_by_anchors(
    IMAGES, IMAGES, image_anchors=image, text_anchors=np.roll(text, 1, 0), **options
  )
  assert ours["asif_top1"] > apart["asif_top1"] + 0.3


def test_what_does_not_fit_together_is_named():
  with pytest.raises(ValueError, match="features of dim 8 and text of dim 5"):
    zero_shot(IMAGES, IMAGES, text=TEXT[..., :5])
  with pytest.raises(ValueError, match="label 6 has no text: text names 4 classes"):
    zero_shot(IMAGES, IMAGES, text=TEXT[:4])
  with pytest.raises(ValueError, match="kept=41 of 40 anchors"):
    relative_to_anchors(IMAGES.features, np.ones((40, 8), "f"), kept=41, exponent=8.0)
