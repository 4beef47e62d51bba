"""Two encoders side by side: which of their layers are alike, and what each is good for.

  python -m experiments.compare runs/simclr_digits runs/simmim_digits

writes runs/compare/report.html: a heat map of the similarity of all layers (debiased linear CKA,
and the neighbours that two layers share), accuracy, spectra, accuracy by dimension, which classes
are taken for which, and what either finds nearest. A side is the folder of a run, or a file of
features that experiments.extract wrote, on the same images in the same order:

  python -m experiments.extract --encoder=timm/NAME --weights=FILE --data=folder:PATH \\
    --features=pooled,mean_0,mean_5,mean_11 --out=one.npz
  python -m experiments.compare one.npz other.npz --out_dir=runs/one_and_other
"""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import flags

from experiments import measured, outcome
from experiments.restored import restore_run
from repjax import data, evaluate
from repjax.encoders import Features
from repjax.evaluate.matrices import Matrix
from repjax.measure import linear_cka, mutual_knn, similarity_matrix
from repjax.train import launch
from repjax.train.launch import Settings

flags.DEFINE_string("first", None, "A run's folder, or a file of features.")
flags.DEFINE_string("second", None, "The other.")
flags.DEFINE_string("out_dir", "runs/compare", "Where the page goes.")
flags.DEFINE_integer(
  "layer_examples", 2000, "Test images whose layers are compared.", lower_bound=4
)

_NEIGHBOURS = 10
_PROTOCOLS = (evaluate.knn, evaluate.linear_probe, evaluate.spectrum)


class Side(NamedTuple):
  """What is known of an encoder.

  Attributes:
    name: short.
    layers: by name ``[examples, dim]``, of some test images.
    train: pooled features.
    test: likewise.
    dataset: what they are of; absent for files.
  """

  name: str
  layers: dict[str, np.ndarray]
  train: evaluate.Embedded
  test: evaluate.Embedded
  dataset: data.Dataset | None


def main(settings: Settings) -> None:
  """Measures both sides and writes the page."""
  paths = settings.first, settings.second
  if None in paths:
    raise ValueError(
      "name two: python -m experiments.compare FIRST SECOND, folders of runs or files"
    )
  launch.use_compile_cache(settings)
  first, second = (_side(settings, Path(path)) for path in paths)
  if not np.array_equal(first.test.label, second.test.label):
    raise ValueError(
      f"{len(first.test.label)} test images of {paths[0]} are not the {len(second.test.label)} of "
      f"{paths[1]}, or lie in another order; take encoders of the same images"
    )
  names = first.name, second.name
  if names[0] == names[1]:
    names = f"{names[0]} (first)", f"{names[1]} (second)"
  features = dict(zip(names, ((s.train, s.test) for s in (first, second)), strict=True))
  key = jax.random.key(0)
  table = {
    name: evaluate.evaluate(*pair, key=key, protocols=_PROTOCOLS) for name, pair in features.items()
  }
  rows, columns = ([*side.layers] for side in (first, second))
  compare = functools.partial(
    similarity_matrix, [*first.layers.values()], [*second.layers.values()]
  )
  shared = functools.partial(mutual_knn, k=_NEIGHBOURS)
  similarity = {
    "Linear CKA, debiased": compare(functools.partial(linear_cka, unbiased=True)),
    f"{_NEIGHBOURS} neighbours shared": compare(shared),
  }
  page = measured.write_page(
    Path(settings.out_dir),
    " and ".join(names),
    table,
    features,
    first.dataset or second.dataset,
    similarity={k: Matrix(v, rows, columns, *names) for k, v in similarity.items()},
  )
  print(f"\n{evaluate.format_table(table, columns=outcome.columns(table))}\n\nreport: {page}")


def _side(settings: Settings, path: Path) -> Side:
  """Reads or encodes one side."""
  return _of_file(settings, path) if path.suffix == ".npz" else _of_run(settings, path)


def _of_file(settings: Settings, path: Path) -> Side:
  with np.load(path, allow_pickle=False) as file:
    arrays = dict(file)
  if missing := {"train_label", "test_label"} - arrays.keys():
    raise ValueError(f"{path} has no {min(missing)}; it is no file of experiments.extract")
  pooled = next((k for k in ("pooled", *sorted(_features(arrays))) if f"test_{k}" in arrays), None)
  if pooled is None:
    raise ValueError(f"{path} holds no features of test images; it has {', '.join(arrays)}")
  train, test = (
    evaluate.Embedded(_flat(arrays[f"{split}_{pooled}"]), arrays[f"{split}_label"])
    for split in ("train", "test")
  )
  some = _some(settings, len(test.label))
  layers = {name: _flat(arrays[f"test_{name}"][some]) for name in _features(arrays)}
  return Side(path.stem, layers, train, test, None)


def _of_run(settings: Settings, path: Path) -> Side:
  run = restore_run(settings.replace(workdir=str(path)))
  dataset, size = run.ready.dataset, run.settings.eval_batch_size
  quiet = not settings.progress
  embed = functools.partial(outcome.embed, run.ready, run.state, size=size, name=path.name)
  train, test = (embed(split, quiet=quiet) for split in (dataset.train, dataset.test))
  some = data.Subset(dataset.test, _some(settings, len(dataset.test)))
  layers = {}

  def encode(state, image):
    features = run.ready.learner.encode(state, image)
    found = _means(features)
    layers.update({name: x.shape[1] for name, x in found.items()})
    return features._replace(pooled=jax.numpy.concatenate([*found.values()], 1))

  joined = outcome.encode_split(
    encode, run.state, some, size, run.ready.mesh, name="layers", quiet=quiet
  )
  ends = np.cumsum([*layers.values()])[:-1]
  parts = np.split(joined.features, ends, 1)
  return Side(path.name, dict(zip(layers, parts, strict=True)), train, test, dataset)


def _means(features: Features) -> dict[str, jax.Array]:
  """Each layer's mean over its places, and the pooled feature."""
  found = {
    f"layer {i}": x.reshape(len(x), -1, x.shape[-1]).mean(1) for i, x in enumerate(features.layers)
  }
  return found | {"pooled": features.pooled}


def _features(arrays) -> list[str]:
  names = [name.removeprefix("test_") for name in arrays if name.startswith("test_")]
  return [name for name in names if name != "label"]


def _flat(x: np.ndarray) -> np.ndarray:
  """``[n, dim]``: the mean of all tokens where there are several."""
  x = np.asarray(x, np.float32)
  return x if x.ndim == 2 else x.reshape(len(x), -1, x.shape[-1]).mean(1)


def _some(settings: Settings, size: int) -> np.ndarray:
  return np.sort(data.indices(0, 0, min(settings.layer_examples, size), size))


if __name__ == "__main__":
  launch.run_app(main, positional=("first", "second"))
