"""Compares losses with the answers that scripts in tests/oracles stored."""

import functools
import pathlib
from collections.abc import Callable

import jax
import numpy as np
from harness import FAST_COMPILE, Arrays, split

ORACLES = pathlib.Path(__file__).resolve().parents[1] / "oracles"


def answers(file: str) -> list[str]:
  """Names of the answers that a script in tests/oracles stored."""
  return sorted(key.removesuffix("/value") for key in _stored(file) if key.endswith("/value"))


@functools.cache
def _stored(file: str) -> Arrays:
  with np.load(ORACLES / f"{file}.npz", allow_pickle=False) as data:
    return dict(data)


def check_answer(file: str, name: str, ours: Callable) -> None:
  """Compares value and gradients with a stored answer.

  Args:
    file: name of the ``.npz`` file in tests/oracles.
    name: of the answer in it.
    ours: our loss, reduced as theirs is, of the arrays by name.
  """
  stored = _stored(file)
  part = lambda kind: {
    key.removeprefix(f"{name}/{kind}/"): array
    for key, array in stored.items()
    if key.startswith(f"{name}/{kind}/")
  }
  inputs, gradients, value = part("input"), part("gradient"), stored[f"{name}/value"]
  floats, rest = split(inputs)
  rest = {k: v.astype(np.int32) if v.dtype == np.int64 else v for k, v in rest.items()}
  run = jax.value_and_grad(lambda floats: ours(**floats, **rest))
  with jax.enable_x64(True):
    ours_64, grads_64 = jax.tree.map(
      np.asarray, jax.jit(run, compiler_options=FAST_COMPILE)(floats)
    )
  floats = {k: v.astype(np.float32) for k, v in floats.items()}
  ours_32, grads_32 = jax.jit(run, compiler_options=FAST_COMPILE)(floats)
  np.testing.assert_allclose(ours_64, value, rtol=1e-10, atol=1e-12)
  np.testing.assert_allclose(ours_32, value, rtol=1e-5, atol=1e-6)
  for key, wanted in gradients.items():
    scale = max(1.0, np.abs(wanted).max())
    message = f"gradient of {key}"
    np.testing.assert_allclose(grads_64[key], wanted, 1e-9, 1e-11 * scale, err_msg=message)
    np.testing.assert_allclose(grads_32[key], wanted, 1e-5, 1e-5 * scale, err_msg=message)
