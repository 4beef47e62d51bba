"""What the benchmark of a training step takes for granted about the step."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.learners import reconstruct

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.mark.thorough
def test_masks_handed_to_the_rival_are_those_that_our_step_hides(monkeypatch):
  monkeypatch.syspath_prepend(str(BENCHMARKS))
  from our_side import Case, masks_of_steps, normalizer, our_side

  case = Case("cpu", "simmim", "vit_nano4", 16, 4, "float32", "cls", False, False)
  image = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
  ours = our_side(case, {"image": image, "label": np.zeros(4, np.int32)}, (False,))
  mask = masks_of_steps(case, 1)[0]
  target = normalizer(case)(jnp.asarray(image, jnp.float32) / 255)
  fill = jax.jit(lambda image, mask: reconstruct(case.net, ours.params, {}, image, mask, 4))
  predicted = fill(target, mask).predicted
  hidden = jnp.repeat(jnp.repeat(mask.reshape(4, 4, 4), 4, 1), 4, 2)
  error = np.abs(predicted - target)[np.asarray(hidden)]
  np.testing.assert_allclose(ours.run(False, 1)[0], error.mean(), 1e-5)
  # Forward once and backward twice, attention besides and a first layer without input gradient.
  per_token = 2 * sum(x.size for x in jax.tree.leaves(ours.params) if x.ndim == 2)
  assert 2 < ours.flops / (4 * 17 * per_token) < 4
  assert ours.traffic > 2 * sum(x.nbytes for x in jax.tree.leaves(ours.params))
