"""Rotary positions: offsets alone count, grids span the same, mixed ones hold the axial ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.encoders import ViT
from repjax.encoders.positions import (
  Rotation,
  mixed_frequencies,
  rotary_axial,
  rotary_mixed,
  rotate,
)

DRAW = np.random.default_rng(0)


def close(x, y, tolerance=1e-5):
  np.testing.assert_allclose(x, y, tolerance, tolerance)


def mixed(grid, head_dim):
  """Turns of two heads by frequencies that were drawn."""
  return rotary_mixed(grid, mixed_frequencies(jax.random.key(0), (2, 2, head_dim // 2)))


@pytest.mark.parametrize("turns", [mixed, lambda *given: Rotation(*rotary_axial(*given))])
def test_scores_depend_on_offsets_alone(turns):
  query, key = DRAW.standard_normal((2, 2, 8), np.float32)
  rotation = turns((4, 6), 8)
  everywhere = lambda x: rotate(jnp.broadcast_to(x, (1, 24, 2, 8)), rotation)
  scores = jnp.einsum("bqhd,bkhd->bhqk", everywhere(query), everywhere(key))
  scores = scores.reshape(2, 4, 6, 4, 6)
  close(scores[:, :3, 2:, :3, 2:], scores[:, 1:, :-2, 1:, :-2])
  assert np.abs(scores[:, :3, :, :3] - scores[:, 1:, :, :3]).max() > 0.1


@pytest.mark.parametrize("columns_first", [False, True])
def test_pairs_turn_as_complex_numbers_do(columns_first):
  """The definition in float64: the first half of the pairs by one axis, the others by the other."""
  x = DRAW.standard_normal((1, 6, 1, 16))
  sin, cos = rotary_axial((2, 3), 16, temperature=50.0, columns_first=columns_first)
  found = rotate(jnp.asarray(x, jnp.float32), Rotation(sin, cos))
  axes = [(token // 3, token % 3)[:: -1 if columns_first else 1] for token in range(6)]
  turn = np.array([[p / 50 ** (k / 4) for p in place for k in range(4)] for place in axes])
  wanted = (x[..., :8] + 1j * x[..., 8:]) * np.exp(1j * turn)[None, :, None]
  close(found, np.concatenate([wanted.real, wanted.imag], -1))


def test_another_grid_spans_the_reference():
  whole = [x.reshape(16, 12, 8) for x in rotary_axial((16, 12), 8, reference=(16, 12))]
  half = rotary_axial((8, 4), 8, reference=(16, 12))
  for x, y in zip(whole, half, strict=True):
    close(x[::2, ::3].reshape(1, 32, 8), y)
  close(rotary_axial((16, 12), 8), [x.reshape(1, -1, 8) for x in whole])


def test_mixed_frequencies_along_the_axes_are_axial():
  bands, none = 100.0 ** -np.array([0, 0.5]), np.zeros(2)
  frequencies = np.float32([[[*bands, *none]], [[*none, *bands]]])
  sin, cos = rotary_axial((3, 4), 8, temperature=100.0, columns_first=True)
  found = rotary_mixed((3, 4), frequencies)
  close(found.sin[:, :, 0], sin)
  close(found.cos[:, :, 0], cos)


def test_drawn_frequencies_are_right_angles_of_given_lengths():
  drawn = np.asarray(mixed_frequencies(jax.random.key(1), (2, 3, 5, 8), temperature=16.0))
  first, second = np.split(drawn, 2, -1)
  close(np.linalg.norm(first, axis=0), np.broadcast_to([1, 0.5, 0.25, 0.125], (3, 5, 4)))
  close((first * second).sum(0), np.zeros((3, 5, 4)))
  assert np.ptp(np.arctan2(first[1], first[0])[..., 0]) > 1


@pytest.mark.parametrize("rotary", ["mixed", rotary_axial])
def test_heads_that_two_axes_do_not_share_are_refused(rotary):
  encoder = ViT(4, 12, 1, 2, positions="rotary", rotary=rotary)
  with pytest.raises(ValueError, match="dim / heads divisible by 4, got 6") as no:
    jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
  assert "\n" not in str(no.value)
