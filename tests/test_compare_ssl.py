"""The comparison of methods: what is on record stays, what is missing is run, controls beside."""

import json

import jax
import pytest

from experiments import claim, compare_ssl
from repjax import evaluate
from repjax.train import launch
from repjax.train.launch import Settings

GIVEN = {
  "views": 64, "batch_size": 32, "view_size": 8, "encoder": "vit_nano4", "methods": ["byol"],
  "seeds": ["0"], "progress": False,
}  # fmt: skip


def compare(path, **given):
  given = GIVEN | given | {"results": str(path), "workdir": str(path.parent / "runs")}
  compare_ssl.main(Settings(launch.flag_defaults() | {"compile_cache": ""} | given, given))
  return json.loads(path.read_text())


@pytest.fixture(scope="module", autouse=True)
def quick():
  # Fitting linear probes to each width is what takes long, and is tested where they are.
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(compare_ssl, "PROTOCOLS", (compare_ssl.PROTOCOLS[0], evaluate.spectrum))
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
  path = tmp_path_factory.mktemp("compare") / "record.json"
  return path, compare(path)


@pytest.mark.thorough
def test_controls_stand_beside_the_method(record):
  _, found = record
  assert [run["method"] for run in found["runs"]] == [*compare_ssl.CONTROLS, "byol"]
  assert all({"knn_20", "rank_me", "uniformity"} <= run["metrics"].keys() for run in found["runs"])
  assert "--methods" not in found["command"] and "--encoder=vit_nano4" in found["command"]


@pytest.mark.thorough
def test_what_is_on_record_is_not_run_again(record):
  path, found = record
  assert compare(path) == found
  assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_method_is_named(tmp_path):
  with pytest.raises(ValueError, match=r"--methods=boyl is unknown; choose of .*byol"):
    compare(tmp_path / "record.json", methods=["boyl"])


def test_means_and_errors_are_those_between_seeds():
  runs = [
    {"method": "a", "seed": i, "metrics": {"x": x, "x_stderr": 9.0}} for i, x in enumerate([1, 2])
  ]
  assert claim.summarize(runs) == {"a": {"x": 1.5, "x_stderr": 0.5}}
