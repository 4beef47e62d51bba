"""Frozen features to tables of numbers."""

from repjax.evaluate.embed import Embedded, embed, pixels
from repjax.evaluate.few_shot import few_shot
from repjax.evaluate.knn import knn
from repjax.evaluate.linear import linear_probe
from repjax.evaluate.table import evaluate, format_table

__all__ = [
  "Embedded",
  "embed",
  "evaluate",
  "few_shot",
  "format_table",
  "knn",
  "linear_probe",
  "pixels",
]
