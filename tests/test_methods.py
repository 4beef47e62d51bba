"""Methods by name: each is built from flags alone, says how its features spread, and resumes."""

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from experiments.methods import METHODS
from experiments.setup import prepare
from repjax.train import Schedule, launch, make_mesh, train
from repjax.train.launch import Settings

SMALL = {
  "encoder": "vit_nano2",
  "stem": "patch",
  "scan": True,
  "batch_size": 16,
  "steps": 4,
  "compile_cache": "",
}


def prepared(name, **given):
  given = SMALL | given
  ours = Settings(launch.flag_defaults() | given, given)
  return prepare(METHODS[name], ours), ours


def batch_of(ready):
  return {k: np.resize(v, (16, *np.shape(v))) for k, v in ready.dataset.train[0].items()}


EVERYDAY = {"simclr", "byol", "swav", "ibot", "mae", "ijepa", "supervised"}


@pytest.mark.parametrize(
  "name",
  [pytest.param(name, marks=() if name in EVERYDAY else pytest.mark.thorough) for name in METHODS],
)
def test_every_method_says_how_far_its_features_spread(name):
  ready, _ = prepared(name)
  batch, key = batch_of(ready), jax.random.key(0)
  state = jax.eval_shape(ready.learner.init, key, batch)
  after, metrics = jax.eval_shape(ready.learner.update, state, batch, key)
  assert jax.tree.structure(after) == jax.tree.structure(state)
  assert metrics.keys() >= {"loss", "grad_norm", "feature_std", "feature_rank"}
  features = jax.eval_shape(ready.learner.encode, after, batch["image"])
  assert features.pooled.shape == (16, 64)


@pytest.mark.parametrize("name", ["mae", "ijepa", "msn", "dinov2"])
def test_what_hides_patches_needs_an_encoder_that_has_some(name):
  with pytest.raises(ValueError, match=r"--encoder=resnet18 has no patches to hide; choose a ViT"):
    prepared(name, encoder="resnet18", stem="cifar")


@pytest.fixture
def compiled_once(tmp_path):
  """What a test compiles more than once is compiled once."""
  before = jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", str(tmp_path / "compiled"))
  compilation_cache.reset_cache()  # by now JAX has settled for what was there before
  yield
  jax.config.update("jax_compilation_cache_dir", before)
  compilation_cache.reset_cache()


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["swav", "dino", "ijepa"])
@pytest.mark.usefixtures("compiled_once")
def test_teachers_queues_and_centres_resume_to_the_same_bits(name, tmp_path):
  options = {"queue": 32} if name == "swav" else {}
  ready, _ = prepared(name, **options)

  def run(workdir, steps):
    # The rate depends on the length of the run, the schedule of the loop alone does not.
    schedule = Schedule(steps, log_every=1, checkpoint_every=2)
    mesh = make_mesh(devices=jax.devices()[:1])
    return train(ready.learner, ready.feed, schedule, workdir=workdir, mesh=mesh, progress=False)

  whole = run(tmp_path / "whole", 4).state
  run(tmp_path / "parts", 2)
  resumed = run(tmp_path / "parts", 4).state
  same = lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
  jax.tree.map(same, resumed, whole)
