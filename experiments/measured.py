"""What a page shows of frozen features: classes, dimensions, spectra, neighbours."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import outcome
from repjax import data, evaluate
from repjax.evaluate import matrices, pictures
from repjax.evaluate.report import Report, write_report
from repjax.train import launch

Features = Mapping[str, tuple[evaluate.Embedded, evaluate.Embedded]]
_QUERIES, _FOUND, _VOTES = 8, 8, 20


def write_page(
  folder: Path,
  title: str,
  table: Mapping[str, Mapping[str, float]],
  features: Features,
  dataset: data.Dataset | None,
  *,
  similarity: Mapping[str, matrices.Matrix] | None = None,
) -> Path:
  """Writes a page on representations of one data set.

  Args:
    folder: where ``report.html`` and its figures go.
    title: of the page.
    table: numbers by representation and metric.
    features: train and test split by representation, with labels.
    dataset: what they are of; without it there are no images.
    similarity: of the representations' layers, by title.

  Returns:
    The page's path.
  """
  classes = dataset.classes if dataset else ()
  shown = {name: x for name, x in features.items() if name != "untrained"}
  page = Report(
    title=title,
    command=launch.command(),
    commit=launch.commit(),
    hardware=launch.hardware(),
    versions={p: importlib.metadata.version(p) for p in ("jax", "flax", "numpy")},
    table={row: {k: v for k, v in t.items() if k != "linear_penalty"} for row, t in table.items()},
    controls=[name for name in table if name.startswith("raw pixels") or name == "untrained"],
    classes=classes,
    similarity=similarity or {},
    neighbours=dataset and neighbours(shown, dataset),
    **parts(features, classes),
  )
  return write_report(folder, page, figures=outcome.can_draw())


def parts(features: Features, classes: Sequence[str]) -> dict[str, Any]:
  """Fields of a `repjax.evaluate.report.Report` that need features alone.

  Args:
    features: train and test split by representation, with labels.
    classes: names of the labels.

  Returns:
    Spectra, accuracy by dimension, and which classes are taken for which.
  """
  spectra, dimensions, confusion = {}, {}, {}
  for name, (train, test) in features.items():
    spectra[name] = evaluate.variance_curve(train.features)
    votes = min(_VOTES, int(np.sum(train.label >= 0)))
    components = evaluate.projected(train, test, count=train.features.shape[1])
    sizes, scores = evaluate.accuracy_by_dimension(*components, k=votes)
    dimensions[name] = np.log2(sizes), scores
    (predicted,) = evaluate.knn_predictions(train, test, k=(votes,))
    confusion[name] = matrices.confusion_matrix(predicted, test.label, classes)
  return {
    "spectra": {"share of the variance": spectra},
    "dimensions": {"accuracy on principal components": dimensions},
    "confusion": confusion,
  }


def neighbours(features: Features, dataset: data.Dataset) -> pictures.Neighbours:
  """Test images and what each representation finds in the train split, of all classes.

  Args:
    features: train and test split by representation.
    dataset: whose images these are, in that order.

  Returns:
    The sheet, with the images that were found and no others.
  """
  bank, test = dataset.train, dataset.test
  # One of each class in turn, so that a sheet is not of a few classes.
  label = next(iter(features.values()))[1].label
  rank = np.empty(len(label), int)
  for name in np.unique(label):
    own = np.flatnonzero(label == name)
    rank[own] = np.arange(len(own))
  queries = np.lexsort((label, rank))[:_QUERIES]
  count = min(_FOUND, len(bank))
  found = {
    name: pictures.nearest_neighbours(theirs.features[queries], ours.features, count)
    for name, (ours, theirs) in features.items()
  }
  some, places = np.unique(np.concatenate([x.ravel() for x in found.values()]), return_inverse=True)
  ends = np.cumsum([x.size for x in found.values()])[:-1]
  places = np.split(places.ravel(), ends)
  asked, shown = data.take(test, queries), data.take(bank, some)
  found = {name: x.reshape(queries.size, -1) for name, x in zip(found, places, strict=True)}
  return pictures.Neighbours(asked["image"], asked["label"], shown["image"], shown["label"], found)
