"""Frozen features to tables of numbers."""

from repjax.evaluate.clustering import (
  cluster_kmeans,
  clustering_scores,
  kmeans,
  matched_accuracy,
)
from repjax.evaluate.embed import Embedded, embed, pixels, projected
from repjax.evaluate.few_shot import few_shot
from repjax.evaluate.knn import knn
from repjax.evaluate.linear import linear_probe
from repjax.evaluate.retrieval import ranking_scores, retrieval
from repjax.evaluate.search import search_by_faiss, search_gallery
from repjax.evaluate.spectrum import spectrum
from repjax.evaluate.table import evaluate, format_table

__all__ = [
  "Embedded",
  "cluster_kmeans",
  "clustering_scores",
  "embed",
  "evaluate",
  "few_shot",
  "format_table",
  "kmeans",
  "knn",
  "linear_probe",
  "matched_accuracy",
  "pixels",
  "projected",
  "ranking_scores",
  "retrieval",
  "search_by_faiss",
  "search_gallery",
  "spectrum",
]
