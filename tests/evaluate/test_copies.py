"""Copy detection against scikit-learn, and what it sees that a mean over queries does not."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from repjax.evaluate import copy_detection, micro_average_precision

RNG = np.random.default_rng(0)
SCORE = np.round(RNG.normal(size=(30, 20)), 1)  # with ties
RELEVANT = RNG.random((30, 20)) < 0.1


def test_average_precision_of_all_pairs_is_that_of_scikit_learn():
  wanted = average_precision_score(RELEVANT.ravel(), SCORE.ravel())
  np.testing.assert_allclose(micro_average_precision(SCORE, RELEVANT), wanted, rtol=1e-12)


def test_recall_at_a_precision_is_that_of_scikit_learns_curve():
  references = RNG.normal(size=(40, 6))
  partner = np.where(np.arange(60) < 30, np.arange(60), -1)
  queries = references[np.maximum(partner, 0)] + 0.7 * RNG.normal(size=(60, 6))
  queries[30:] = RNG.normal(size=(30, 6))
  found = copy_detection(queries, references, partner, precision=0.8)
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  cosine = unit(queries) @ unit(references).T
  copy = np.arange(40)[None] == partner[:, None]
  precision, recall, _ = precision_recall_curve(copy.ravel(), cosine.ravel())
  assert 0 < found["recall_at_p80"] < 1
  np.testing.assert_allclose(found["recall_at_p80"], recall[precision >= 0.8].max())
  np.testing.assert_allclose(
    found["micro_ap"], average_precision_score(copy.ravel(), cosine.ravel())
  )
  np.testing.assert_allclose(found["recall_at_1"], np.mean(cosine[:30].argmax(1) == partner[:30]))


def test_queries_of_no_reference_cost_what_a_mean_over_queries_does_not_see():
  references = np.eye(4)
  sure = copy_detection(references, references, np.arange(4))
  assert sure["micro_ap"] == sure["recall_at_1"] == 1
  queries = np.concatenate([references + 0.3, references])
  mixed = copy_detection(queries, references, np.array([0, 1, 2, 3, -1, -1, -1, -1]))
  assert mixed["recall_at_1"] == 1
  np.testing.assert_allclose(mixed["micro_ap"], 0.5)  # four that are none come first


def test_no_order_of_queries_or_references_counts():
  q, r = RNG.permutation(30), RNG.permutation(20)
  np.testing.assert_allclose(
    micro_average_precision(SCORE[q][:, r], RELEVANT[q][:, r]),
    micro_average_precision(SCORE, RELEVANT),
    rtol=1e-12,
  )


def test_without_a_copy_there_is_no_precision():
  with pytest.raises(ValueError, match=r"a pair that is one.*with 0"):
    micro_average_precision(SCORE, np.zeros_like(RELEVANT))
  with pytest.raises(ValueError, match=r"partner \[query\], got \(3, 2\), \(3, 2\) and \(2,\)"):
    copy_detection(np.ones((3, 2)), np.ones((3, 2)), np.zeros(2, int))
