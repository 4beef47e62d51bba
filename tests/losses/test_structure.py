"""Laws of structure preservation: minima, bounds, errors that name shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.losses.structure import structure_preservation

RNG = np.random.default_rng(0)
ALIGNED = RNG.normal(size=(9, 4)).astype(np.float32)
ORIGINAL = RNG.normal(size=(9, 6)).astype(np.float32)
levels = pytest.mark.parametrize("levels", [1, 3])


@levels
def test_turning_and_scaling_an_embedding_costs_nothing(levels):
  turn, _ = np.linalg.qr(RNG.normal(size=(6, 6)))
  turned = (7 * ORIGINAL @ np.eye(6, 8) @ np.pad(turn, (0, 2))).astype(np.float32)
  total = lambda z: jnp.sum(structure_preservation(z, ORIGINAL, levels=levels))
  value, grad = jax.value_and_grad(total)(turned)
  np.testing.assert_allclose(value, 0, atol=1e-5)
  np.testing.assert_allclose(grad, 0, atol=1e-5)


@levels
def test_the_loss_has_a_bound(levels):
  options = {"temperature": 1e-3, "levels": levels}
  loss = structure_preservation(ALIGNED, ORIGINAL, **options)
  assert (loss >= 0).all() and (loss <= np.log(2) + 1e-6).all()


@levels
def test_a_batch_in_two_groups_costs_nothing_if_the_groups_are_kept(levels):
  """Whatever the groups are called: only who is near whom counts."""
  group = np.arange(9) % 2
  one, other = np.eye(2, dtype=np.float32)[group], np.eye(3, dtype=np.float32)[2 - group]
  ours = structure_preservation(one, other, temperature=1e-2, levels=levels)
  np.testing.assert_allclose(ours, 0, atol=1e-5)


def test_one_row_has_no_neighbourhood():
  np.testing.assert_allclose(structure_preservation(ALIGNED[:1], ORIGINAL[:1]), 0, atol=1e-7)


def test_mismatched_batches_are_named():
  with pytest.raises(ValueError, match=r"\(9, 4\).*\(5, 6\)"):
    structure_preservation(ALIGNED, ORIGINAL[:5])
  with pytest.raises(ValueError, match="levels=0 compares nothing"):
    structure_preservation(ALIGNED, ORIGINAL, levels=0)
