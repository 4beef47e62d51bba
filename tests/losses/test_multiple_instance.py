"""Laws of losses with several candidates: limits, closed forms, errors that name shapes."""

import numpy as np
import pytest

from repjax.losses import contrastive, multiple_instance

RNG = np.random.default_rng(0)
CLIP = RNG.normal(size=(7, 4)).astype(np.float32)
CAPTIONS = RNG.normal(size=(7, 3, 4)).astype(np.float32)


def test_one_candidate_is_info_nce_of_both_ways_in_one_softmax():
  options = {"normalize": False, "temperature": 1.0}
  ways = [
    contrastive.info_nce(*pair, **options)
    for pair in ((CLIP, CAPTIONS[:, 0]), (CAPTIONS[:, 0], CLIP))
  ]
  ours = multiple_instance.mil_nce(CLIP, CAPTIONS[:, :1])
  np.testing.assert_allclose(np.exp(ours), np.exp(ways[0]) + np.exp(ways[1]) - 1, rtol=1e-5)


def test_counting_positives_twice_gives_the_loss_of_the_authors_code():
  scores = np.exp(np.einsum("id,jkd->ijk", CLIP, CAPTIONS).astype(np.float64))
  positive = np.array([scores[i, i].sum() for i in range(7)])
  twice = np.log((scores.sum((1, 2)) + scores.sum((0, 2))) / positive)
  ours = multiple_instance.mil_nce(CLIP, CAPTIONS)
  np.testing.assert_allclose(np.log1p(np.exp(ours)), twice, rtol=1e-5)


def test_clips_that_are_all_alike_cost_the_log_of_the_choices():
  ours = multiple_instance.mil_nce(np.ones((7, 4)), np.ones((7, 3, 4)))
  np.testing.assert_allclose(ours, np.log(13), rtol=1e-6)


def test_a_candidate_that_fits_nothing_does_not_harm():
  """Unlike with a mean over candidates as positives."""
  useless = np.concatenate([CAPTIONS[:, :1], -1e3 * np.ones((7, 1, 4), np.float32)], 1)
  clip = np.abs(CLIP) + 0.1
  ours = multiple_instance.mil_nce(clip, useless)
  np.testing.assert_allclose(ours, multiple_instance.mil_nce(clip, CAPTIONS[:, :1]), rtol=1e-5)


def test_mismatched_captions_are_named():
  with pytest.raises(ValueError, match=r"\(7, 4\).*\(7, 3, 2\)"):
    multiple_instance.mil_nce(CLIP, CAPTIONS[..., :2])
