"""SepCLR: the terms of the loss, and what a background example may say."""

import jax
import layouts
import numpy as np
import pytest

from repjax.encoders import MLP
from repjax.learners import Network, Separation, sepclr

BATCH = layouts.BATCH | {"target": np.arange(16) % 3 > 0}
NETWORK = Separation(Network(layouts.Tiny(), MLP((4,))), Network(layouts.Tiny(dim=6), MLP((3,))))
LEARNERS = {
  "sepclr": lambda axis: sepclr(
    NETWORK, layouts.noise, salient_weight=2.0, pin_weight=3.0, axis_name=axis
  )
}


def batch():
  return BATCH


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  layouts.check_layout(LEARNERS["sepclr"], layout, batch=batch)


@pytest.fixture(scope="module")
def seen():
  """Codes of the images as they are, and the loss as a function of its weights."""
  same = lambda key, image: image
  first = sepclr(NETWORK, same)
  params, extra = jax.jit(first.init)(jax.random.key(0), BATCH)
  image = (BATCH["image"] / 255).astype(np.float32)
  common, salient = jax.jit(NETWORK.apply)({"params": params}, image)

  def loss(params, salient_weight, pin_weight, entropy_weight):
    weights = {
      "salient_weight": salient_weight,
      "pin_weight": pin_weight,
      "entropy_weight": entropy_weight,
    }
    return sepclr(NETWORK, same, **weights).loss(params, extra, BATCH, jax.random.key(1))[0]

  codes = np.asarray(common.projected, np.float64), np.asarray(salient.projected, np.float64)
  return params, codes, loss


def test_the_loss_has_the_terms_of_the_authors_code(seen):
  params, (c, s), loss = seen
  c /= np.linalg.norm(c, axis=1, keepdims=True)
  kernel = lambda x: np.exp(-np.square(x[:, None] - x[None]).sum(-1))
  others = ~np.eye(16, dtype=bool)
  target = BATCH["target"]
  pinned = np.where(target[:, None], s, 0)
  uniform = lambda x: np.log(kernel(x)[others].mean())
  # The views are equal, so that alignment is 0.
  wanted = 2 * uniform(c) + 5 * 2 * uniform(pinned) + 7 * np.square(s[~target]).sum(1).mean()
  wanted += 3 * np.log((kernel(c) * kernel(pinned)).mean(1)).mean()
  np.testing.assert_allclose(jax.jit(loss)(params, 5.0, 7.0, 3.0), wanted, rtol=1e-5)


def test_only_the_pin_and_the_targets_move_the_salient_code_and_only_entropy_joins_the_two(seen):
  params, _, loss = seen
  largest = lambda tree: max(float(np.abs(x).max()) for x in jax.tree.leaves(tree))
  grad = jax.jit(jax.grad(loss))
  of = grad(params, 0.0, 0.0, 0.0)
  assert largest(of["common"]) > 1e-4 and largest(of["salient"]) == 0
  alone, joined = grad(params, 1.0, 1.0, 0.0), grad(params, 1.0, 1.0, 1.0)
  assert largest(jax.tree.map(np.subtract, alone["common"], of["common"])) < 1e-7
  assert largest(jax.tree.map(np.subtract, joined["common"], of["common"])) > 1e-5
