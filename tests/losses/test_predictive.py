"""Limits and closed forms of losses that tell what comes next, and errors that name shapes."""

import numpy as np
import pytest

from repjax.losses import predictive
from repjax.losses.contrastive import info_nce


def arrays(*shapes):
  rng = np.random.default_rng(0)
  return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("over_time", [False, True])
def test_cpc_of_one_step_is_info_nce_of_plain_products(over_time):
  prediction, target = arrays((11, 1, 6), (11, 1, 6))
  ours = predictive.cpc(prediction, target, over_time=over_time)
  wanted = info_nce(prediction[:, 0], target[:, 0], temperature=1.0, normalize=False)
  np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6)


def test_cpc_without_a_clue_is_the_log_of_the_choices():
  nothing, target = np.zeros((8, 3, 4), np.float32), arrays((8, 3, 4))[0]
  np.testing.assert_allclose(predictive.cpc(nothing, target), np.log(8), rtol=1e-6)
  over_time = predictive.cpc(nothing, target, over_time=True)
  np.testing.assert_allclose(over_time, np.log(24), rtol=1e-6)


@pytest.mark.parametrize("loss", [predictive.curl_logistic, predictive.curl_hinge])
def test_curl_costs_one_where_positive_and_negative_agree(loss):
  anchor, positive = arrays((7, 5), (7, 5))
  np.testing.assert_allclose(loss(anchor, positive, positive[:, None]), 1, rtol=1e-6)


@pytest.mark.parametrize("loss", [predictive.curl_logistic, predictive.curl_hinge])
def test_a_block_of_one_is_no_block(loss):
  anchor, positive, negative = arrays((7, 5), (7, 5), (7, 4, 5))
  blocks = loss(anchor, positive[:, None], negative[:, :, None])
  np.testing.assert_allclose(blocks, loss(anchor, positive, negative), rtol=1e-6)


@pytest.mark.parametrize("loss", [predictive.curl_logistic, predictive.curl_hinge])
def test_blocks_cost_no_more_than_their_pairs_on_average(loss):
  # Both losses are convex.
  anchor, positive, negative = arrays((7, 5), (7, 3, 5), (7, 1, 3, 5))
  pairs = [loss(anchor, positive[:, i], negative[:, :, i]) for i in range(3)]
  assert np.all(loss(anchor, positive, negative) <= np.mean(pairs, 0) + 1e-6)


def test_mismatched_shapes_are_named():
  with pytest.raises(ValueError, match=r"\(7, 3, 5\).*\(7, 2, 5\)"):
    predictive.cpc(np.zeros((7, 3, 5)), np.zeros((7, 2, 5)))
  for loss in (predictive.curl_logistic, predictive.curl_hinge):
    with pytest.raises(ValueError, match=r"\(7, 5\).*\(7, 4\).*\(7, 4, 5\)"):
      loss(np.zeros((7, 5)), np.zeros((7, 4)), np.zeros((7, 4, 5)))
