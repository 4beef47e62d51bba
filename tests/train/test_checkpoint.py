"""Checkpoints: what was written comes back to the last bit, or not at all."""

import contextlib
import gc
import logging
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.train import Checkpoints, make_mesh, replicated

# Orbax drops the reads that are still to come when one of them fails; Python remarks on it.
pytestmark = [
  pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
  pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),
]
RECORD = {"clock": {"seconds": 1.5, "examples": 123456}, "flags": {"encoder": "vit_nano4"}}


@pytest.fixture(autouse=True)
def dropped_reads_are_collected_here():
  yield
  gc.collect()


def state(step):
  rng = np.random.default_rng(step)
  return {
    "kernel": jnp.asarray(rng.normal(size=(64, 48)), jnp.float32),
    "half": jnp.asarray(rng.normal(size=(7,)), jnp.bfloat16),
    "count": jnp.int32(step),
    "byte": jnp.asarray(rng.integers(0, 256, 9), jnp.uint8),
    "flag": jnp.array([True, False, bool(step % 2)]),
    "key": jax.random.key(step),
  }


def same(x, y):
  bits = lambda leaf: np.asarray(
    jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
  )
  return all(
    a.dtype == b.dtype and bits(a).tobytes() == bits(b).tobytes()
    for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)
  )


def save(folder, steps, metrics=None, **options):
  checkpoints = Checkpoints(folder, **options)
  for step in steps:
    scores = (metrics or {}).get(step)
    checkpoints.save(step, state(step), RECORD | {"position": step}, scores)
  checkpoints.wait()
  kept = checkpoints.steps()
  checkpoints.close()
  return kept


def restore(folder, *, read_only=False, step=None):
  checkpoints = Checkpoints(folder, read_only=read_only)
  try:
    return checkpoints.restore(state(0), replicated(make_mesh()), step=step)
  finally:
    checkpoints.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
  folder = tmp_path_factory.mktemp("two")
  save(folder, [3, 6], {3: {"val/acc": 0.5}, 6: {"val/acc": 0.25}}, best="val/acc")
  return folder


def test_every_type_of_leaf_comes_back_with_its_bits(two):
  found = restore(two)
  assert found.step == 6
  assert same(found.state, state(6))
  assert found.record["position"] == 6
  assert found.record["clock"] == RECORD["clock"]


def test_a_layout_over_other_devices_holds_the_same_bits(two):
  checkpoints = Checkpoints(two, read_only=True)
  for devices in (1, 2, 8):
    mesh = make_mesh(devices=jax.devices()[:devices])
    found = checkpoints.restore(state(0), replicated(mesh))
    assert same(found.state, state(6))
    assert all(leaf.sharding.mesh == mesh for leaf in jax.tree.leaves(found.state["kernel"]))


def halve(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
  path.write_bytes(b"")


def flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 0x01
  path.write_bytes(bytes(content))


def delete(path):
  path.unlink()


@pytest.mark.parametrize("damage", [halve, empty, flip, delete])
def test_damage_to_any_file_gives_the_same_content_or_the_one_before(two, tmp_path, damage, caplog):
  files = sorted(path.relative_to(two) for path in (two / "6").rglob("*") if path.is_file())
  assert len(files) > 8
  skipped = 0
  for i, file in enumerate(files):
    folder = tmp_path / str(i)
    shutil.copytree(two, folder)
    damage(folder / file)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
      found = restore(folder)
    assert found.step in (6, 3), file
    assert same(found.state, state(found.step)), file
    assert found.record["position"] == found.step
    assert found.record["clock"] == RECORD["clock"], file
    assert found.record["flags"] == RECORD["flags"], file
    if found.step == 3:
      skipped += 1
      assert f"skipped checkpoint {folder / '6'}:" in caplog.text
      assert (folder / "6.damaged").is_dir()
  assert skipped >= 3  # at least data, their index and the record


def largest(folder):
  return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_every_flipped_bit_of_the_data_is_seen(two, tmp_path):
  # TensorStore sees them in compressed data; the fingerprint in whatever it lets through.
  for i, offset in enumerate(np.random.default_rng(0).integers(0, 2**30, 8)):
    folder = tmp_path / str(i)
    shutil.copytree(two, folder)
    path = largest(folder / "6" / "state")
    content = bytearray(path.read_bytes())
    content[offset % len(content)] ^= 1 << i
    path.write_bytes(bytes(content))
    found = restore(folder)
    assert found.step in (3, 6)
    assert same(found.state, state(found.step))


def test_content_that_reads_well_and_is_not_what_was_written_is_seen(two, tmp_path):
  folder = tmp_path / "swapped"
  shutil.copytree(two, folder)
  shutil.rmtree(folder / "6" / "state")
  shutil.copytree(folder / "3" / "state", folder / "6" / "state")
  assert restore(folder).step == 3


def test_a_step_whose_checkpoint_was_damaged_is_saved_again(two, tmp_path):
  folder = tmp_path / "run"
  shutil.copytree(two, folder)
  for name in ("6.damaged", "6.damaged1"):
    flip(largest(folder / "6" / "state"))
    checkpoints = Checkpoints(folder)
    assert checkpoints.restore(state(0), replicated(make_mesh())).step == 3
    checkpoints.save(6, state(6), RECORD)
    checkpoints.close()
    assert (folder / name).is_dir()
  found = restore(folder)
  assert found.step == 6
  assert same(found.state, state(6))


def test_looking_changes_nothing(two, tmp_path):
  folder = tmp_path / "run"
  shutil.copytree(two, folder)
  halve(largest(folder / "6" / "state"))
  (folder / "9.orbax-checkpoint-tmp").mkdir()
  before = sorted(folder.rglob("*"))
  assert restore(folder, read_only=True).step == 3
  assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["9.orbax-checkpoint-tmp", "9.orbax-checkpoint-tmp-1700000000"])
def test_what_a_killed_save_leaves_is_ignored(two, tmp_path, name):
  folder = tmp_path / "run"
  shutil.copytree(two, folder)
  shutil.copytree(two / "6", folder / name)
  assert restore(folder).step == 6
  assert 9 in save(folder, [9])


def test_a_full_disk_is_told_in_one_line_and_the_checkpoint_before_stays(tmp_path):
  assert save(tmp_path, [3]) == [3]
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  checkpoints = Checkpoints(tmp_path)
  # As good as a full disk to what writes, and needs no rights.
  resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
  try:
    with pytest.raises(OSError, match=r"cannot be written \(File too large\); make room") as error:
      checkpoints.save(6, state(6), RECORD)
      checkpoints.wait()
    assert "\n" not in str(error.value)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  with contextlib.suppress(OSError):
    checkpoints.close()
  found = restore(tmp_path)
  assert found.step == 3
  assert same(found.state, state(3))
  assert save(tmp_path, [6]) == [3, 6]
  assert same(restore(tmp_path).state, state(6))
  assert not list(tmp_path.glob("*tmp*"))


def test_a_run_with_no_whole_checkpoint_stops_and_keeps_them(two, tmp_path, caplog):
  folder = tmp_path / "run"
  shutil.copytree(two, folder)
  for step in "36":
    halve(largest(folder / step / "state"))
  with pytest.raises(ValueError, match=r"none of the checkpoints \[3, 6\].*--workdir") as error:
    restore(folder)
  assert "\n" not in str(error.value)
  assert (folder / "3").is_dir() and (folder / "6").is_dir()


def test_another_learner_is_refused_and_nothing_is_renamed(two, tmp_path):
  folder = tmp_path / "run"
  shutil.copytree(two, folder)
  checkpoints = Checkpoints(folder)
  other = state(0) | {"kernel": jnp.zeros((64, 50))}
  with pytest.raises(ValueError, match="fits this learner"):
    checkpoints.restore(other, replicated(make_mesh()))
  checkpoints.close()
  assert restore(folder).step == 6


def test_no_checkpoint_is_no_error(tmp_path):
  assert restore(tmp_path / "new") is None
  assert restore(tmp_path / "absent", read_only=True) is None
  assert not (tmp_path / "absent").exists()


def test_a_state_that_is_not_finite_is_never_written(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  for bad in (jnp.nan, jnp.inf):
    broken = state(1) | {"half": jnp.array([1, bad], jnp.bfloat16)}
    with pytest.raises(FloatingPointError, match="step 1 is not finite"):
      checkpoints.save(1, broken, {})
  checkpoints.close()
  assert not [path for path in tmp_path.iterdir() if path.name.startswith("1")]


def test_the_record_is_that_of_the_moment_of_saving(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  clock = {"examples": 1}
  checkpoints.save(1, state(1), {"clock": clock})
  clock["examples"] = 2
  checkpoints.wait()
  assert checkpoints.restore(state(0), replicated(make_mesh())).record["clock"] == {"examples": 1}
  checkpoints.close()


SCORES = {2: {"acc": 0.9}, 4: {"acc": 0.5}, 6: None, 8: {"other": 3.0}, 10: {"acc": 0.7}, 12: None}


def test_the_latest_and_the_best_stay(tmp_path):
  assert save(tmp_path / "latest", SCORES, SCORES, keep=2) == [10, 12]
  assert save(tmp_path / "best", SCORES, SCORES, keep=2, best="acc") == [2, 10, 12]
  assert save(tmp_path / "one", SCORES, SCORES, keep=1, best="acc") == [2, 12]


def test_the_best_is_known_to_a_later_process(tmp_path):
  save(tmp_path, [2, 4, 6], SCORES, keep=1, best="acc")
  looking = Checkpoints(tmp_path, read_only=True)
  assert looking.best("acc") == 2
  assert save(tmp_path, [8, 10, 12], SCORES, keep=1, best="acc") == [2, 12]
  assert save(tmp_path, [14], {14: {"acc": 0.95}}, keep=1, best="acc") == [14]


def test_without_a_value_there_is_no_best(tmp_path):
  assert save(tmp_path, [6, 8, 12], SCORES, keep=1, best="acc") == [12]
  assert Checkpoints(tmp_path, read_only=True).best("acc") is None
  assert Checkpoints(tmp_path / "absent", read_only=True).best("acc") is None


def test_a_damaged_best_counts_as_none(tmp_path):
  save(tmp_path, [2, 4], SCORES, best="acc")
  for path in (tmp_path / "2").rglob("*"):
    if path.is_file():
      empty(path)
  assert Checkpoints(tmp_path, read_only=True).best("acc") == 4
