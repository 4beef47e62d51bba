"""What ``--data`` accepts."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from repjax import data


@pytest.mark.parametrize("spec", ["", "digit", "digits:x", "npz", "npz:", "folder:", "zip:a.npz"])
def test_an_unknown_spec_lists_what_there_is(spec):
  message = f"--data={spec} is not one of digits, npz:PATH, folder:PATH, tfds:NAME"
  with pytest.raises(ValueError) as error:
    data.load(spec)
  assert str(error.value) == message


def test_a_size_must_be_positive():
  with pytest.raises(ValueError, match="--image_size=0 is not positive; choose at least 1"):
    data.load("digits", image_size=0)


def test_importing_the_room_imports_nothing_heavy():
  heavy = "{'tensorflow', 'tensorflow_datasets', 'grain', 'orbax', 'matplotlib', 'sklearn', 'jax'}"
  code = f"import sys, repjax.data; print(sorted({heavy} & set(sys.modules)))"
  found = subprocess.run(
    [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
  )
  assert (found.stdout.strip(), found.stderr) == ("[]", "")


def test_mnist_is_what_it_should_be():
  path = pathlib.Path(__file__).parents[2].parent / "shared" / "data" / "mnist.npz"
  if not path.exists():
    pytest.skip("shared/data/mnist.npz is not beside the checkout")
  mnist = data.load(f"npz:{path}")
  assert (len(mnist.train), len(mnist.test)) == (60_000, 10_000)
  assert mnist.train.image_shape == (28, 28, 1) and len(mnist.classes) == 10
  # The published counts of each digit in the test split.
  np.testing.assert_array_equal(
    np.bincount(mnist.test.label), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
  )
  assert mnist.train.image.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
  assert mnist.train.image.std() / 255 == pytest.approx(0.3081, abs=1e-4)
