"""What the pages of claims share: learners trained as one, records, bars."""

import json

import jax
import numpy as np
import optax
import pytest

from experiments import claim
from repjax.encoders import MLP, Flat
from repjax.learners import by_gradient, simclr
from repjax.train import launch
from repjax.train.launch import Settings

IMAGES = {"image": np.random.default_rng(0).uniform(size=(8, 2, 2, 1)).astype(np.float32)}


def learner(temperature):
  view = lambda key, image: image * jax.random.uniform(key)
  return by_gradient(simclr(Flat(MLP((4,))), None, view, temperature=temperature), optax.sgd(0.1))


def test_each_of_several_learners_learns_what_it_learns_alone():
  options = {"steps": 2, "batch_size": 8, "seed": 0}
  temperatures = np.array([0.2, 1.0], np.float32)
  together = claim.fit(claim.side_by_side(learner, temperatures), IMAGES, **options)
  alone = claim.fit(learner(1.0), IMAGES, **options)
  close = lambda x, y: np.testing.assert_allclose(x[1], y, rtol=1e-5, atol=1e-6)
  jax.tree.map(close, together.params, alone.params)
  kernels = together.params["encoder"]["net"]["dense_0"]["kernel"]
  assert not np.allclose(kernels[0], kernels[1])


def test_a_flag_without_effect_is_an_error_that_loses_nothing(tmp_path, capsys):
  path, ran = tmp_path / "record.json", []

  def study(seed, settings):
    ran.append(seed)
    list(claim.count_steps(3, "counting"))
    return {"method": {"accuracy": 0.5}}

  def run(**given):
    given |= {"results": str(path), "seeds": ["0", "1"]}
    known = launch.flag_defaults() | {"compile_cache": ""} | given
    claim.run("page", study, Settings(known, given), described="nothing")

  with pytest.raises(ValueError, match=r"--stem=conv has no effect with the other flags"):
    run(stem="conv")
  assert "counting" in capsys.readouterr().err
  run(progress=False)
  assert "counting" not in capsys.readouterr().err
  assert ran == [0, 1]
  assert [run["seed"] for run in json.loads(path.read_text())["runs"]] == [0, 1]
