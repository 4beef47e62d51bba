"""Frozen features to tables of numbers."""

from repjax.evaluate.clustering import (
  cluster_kmeans,
  clustering_scores,
  kmeans,
  matched_accuracy,
)
from repjax.evaluate.embed import Embedded, embed, pixels, projected
from repjax.evaluate.episodes import (
  draw_episodes,
  episodes,
  nearest_mean,
  nearest_mean_by_cosine,
  ridge,
)
from repjax.evaluate.few_shot import few_shot
from repjax.evaluate.knn import knn
from repjax.evaluate.linear import linear_probe
from repjax.evaluate.retrieval import ranking_scores, retrieval
from repjax.evaluate.search import search_by_faiss, search_gallery
from repjax.evaluate.spectrum import spectrum
from repjax.evaluate.table import evaluate, format_table
from repjax.evaluate.verification import (
  draw_pairs,
  fold_accuracy,
  verification,
  verification_scores,
)

__all__ = [
  "Embedded",
  "cluster_kmeans",
  "clustering_scores",
  "draw_episodes",
  "draw_pairs",
  "embed",
  "episodes",
  "evaluate",
  "few_shot",
  "fold_accuracy",
  "format_table",
  "kmeans",
  "knn",
  "linear_probe",
  "matched_accuracy",
  "nearest_mean",
  "nearest_mean_by_cosine",
  "pixels",
  "projected",
  "ranking_scores",
  "retrieval",
  "ridge",
  "search_by_faiss",
  "search_gallery",
  "spectrum",
  "verification",
  "verification_scores",
]
