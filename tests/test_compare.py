"""Two encoders side by side: features of files, and mistakes that are told in a line."""

import numpy as np
import pytest

from experiments import compare
from repjax.train import launch
from repjax.train.launch import Settings, settings_from_flags


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  folder = tmp_path_factory.mktemp("compare")
  rng = np.random.default_rng(0)
  label = np.arange(40, dtype=np.int32) % 4
  near = rng.normal(size=(40, 6)) + 3 * np.eye(6)[label]
  turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
  for name, x in (("one", near), ("other", 2 * near @ turn), ("short", near[:20])):
    arrays = {"pooled": x, "mean_0": rng.normal(size=x.shape)}
    arrays = {
      f"{s}_{k}": v.astype(np.float32) for s in ("train", "test") for k, v in arrays.items()
    }
    labels = {"train_label": label[: len(x)], "test_label": label[: len(x)]}
    np.savez(folder / f"{name}.npz", **arrays, **labels)
  np.savez(folder / "strange.npz", x=near)
  return folder


def run(files, first, second):
  given = {"first": str(files / first), "second": str(files / second)}
  given |= {"out_dir": str(files / "page"), "progress": False, "compile_cache": ""}
  compare.main(Settings(launch.flag_defaults() | given, given))


def test_a_turned_copy_is_alike_in_its_pooled_layer_and_no_other(files, capsys):
  run(files, "one.npz", "other.npz")
  assert "one " in capsys.readouterr().out
  page = (files / "page" / "report.html").read_text()
  cka = page.split("Linear CKA")[2]  # the first is a label for readers of screens
  values = [float(x.split("<")[0]) for x in cka.split('%">')[1:5]]
  assert values[0] == 1 and max(values[1:]) < 0.6
  assert (files / "page" / "figures" / "similarity.png").exists()


def test_mistakes_are_told_in_a_line(files):
  with pytest.raises(ValueError, match=r"40 test images of .*one.npz are not the 20 of"):
    run(files, "one.npz", "short.npz")
  with pytest.raises(ValueError, match=r"strange.npz has no test_label"):
    run(files, "one.npz", "strange.npz")
  with pytest.raises(FileNotFoundError, match=r"has no flags\.json"):
    run(files, "one.npz", "nowhere")


def test_a_third_argument_is_refused():
  with pytest.raises(ValueError, match=r"'c' is not a flag"):
    settings_from_flags(["compare", "a", "b", "c"], ("first", "second"))
