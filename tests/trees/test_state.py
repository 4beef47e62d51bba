"""Files of weights: what goes in comes out, and what is no such file is said in a line."""

import json
import pathlib
import re

import numpy as np
import pytest

from repjax.trees import read_state, write_state

STATE = {
  "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
  "a.bias": np.array([1, -2], np.float16),
}


def same(found, wanted=STATE):
  assert found.keys() == wanted.keys()
  for name, value in wanted.items():
    assert found[name].dtype == value.dtype
    np.testing.assert_array_equal(found[name], value)


def test_safetensors_and_their_folder_give_back_what_was_written(tmp_path):
  write_state(tmp_path / "model.safetensors", STATE)
  same(read_state(tmp_path / "model.safetensors"))
  same(read_state(tmp_path))


def test_bfloat16_keeps_its_numbers(tmp_path):
  import ml_dtypes

  state = {"w": np.array([1.5, -3.0, 1e30], ml_dtypes.bfloat16)}
  write_state(tmp_path / "w.safetensors", state)
  same(read_state(tmp_path / "w.safetensors"), state)


def test_an_index_joins_its_files(tmp_path):
  for i, name in enumerate(STATE):
    write_state(tmp_path / f"part_{i}.safetensors", {name: STATE[name]})
  places = {name: f"part_{i}.safetensors" for i, name in enumerate(STATE)}
  index = tmp_path / "model.safetensors.index.json"
  index.write_text(json.dumps({"weight_map": places}))
  same(read_state(index))
  same(read_state(tmp_path))


def test_a_truncated_file_is_named(tmp_path):
  path = tmp_path / "w.safetensors"
  write_state(path, STATE)
  path.write_bytes(path.read_bytes()[:-4])
  with pytest.raises(ValueError, match=re.escape(f"{path} is not a whole safetensors file")):
    read_state(path)


@pytest.mark.parametrize("name", ["w.npy", "nothing.safetensors", "empty"])
def test_what_is_no_file_of_weights_is_named(tmp_path, name):
  (tmp_path / "w.npy").touch()
  (tmp_path / "empty").mkdir()
  with pytest.raises((ValueError, FileNotFoundError), match=re.escape(str(tmp_path / name))) as no:
    read_state(tmp_path / name)
  assert "\n" not in str(no.value)


def test_pytorch_files_hold_tensors_alone(tmp_path):
  torch = pytest.importorskip("torch")
  state = {k: torch.from_numpy(v) for k, v in STATE.items()}
  torch.save(state, tmp_path / "plain.pth")
  torch.save({"student": state, "teacher": state, "epoch": 3}, tmp_path / "two.pth")
  torch.save({"model": state, "optimizer": {"step": 1}}, tmp_path / "one.pth")
  torch.save({"model": state, "code": pathlib.Path("x")}, tmp_path / "code.pth")
  same(read_state(tmp_path / "plain.pth"))
  same(read_state(tmp_path / "one.pth"))
  same(read_state(tmp_path / "two.pth", key="teacher"))
  with pytest.raises(ValueError, match="'student', 'teacher', not None; choose by key="):
    read_state(tmp_path / "two.pth")
  with pytest.raises(ValueError, match="is no file of tensors alone"):
    read_state(tmp_path / "code.pth")
