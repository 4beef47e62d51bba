"""Frozen features to tables of numbers."""

from repjax.evaluate.adaptive import adaptive_cost, adaptive_search
from repjax.evaluate.clustering import cluster_kmeans, clustering_scores, kmeans, matched_accuracy
from repjax.evaluate.compatibility import cross_retrieval
from repjax.evaluate.copies import copy_detection, micro_average_precision
from repjax.evaluate.dense_probe import dense_probe, segmentation_scores
from repjax.evaluate.dimensions import accuracy_by_dimension, first_dimensions, variance_curve
from repjax.evaluate.domains import merged_retrieval
from repjax.evaluate.embed import Embedded, embed, pixels, projected
from repjax.evaluate.episodes import (
  draw_episodes,
  episodes,
  nearest_mean,
  nearest_mean_by_cosine,
  ridge,
)
from repjax.evaluate.few_shot import few_shot
from repjax.evaluate.knn import knn, knn_predictions
from repjax.evaluate.linear import linear_probe
from repjax.evaluate.retrieval import ranking_scores, retrieval
from repjax.evaluate.search import search_by_faiss, search_gallery
from repjax.evaluate.sgd_probe import sgd_probe
from repjax.evaluate.spectrum import spectrum
from repjax.evaluate.table import evaluate, format_table
from repjax.evaluate.verification import (
  draw_pairs,
  fold_accuracy,
  verification,
  verification_scores,
)
from repjax.evaluate.whitening import concatenated, whitened
from repjax.evaluate.zero_shot import (
  class_embeddings,
  relative_to_anchors,
  zero_shot,
  zero_shot_by_anchors,
)

__all__ = [
  "Embedded",
  "accuracy_by_dimension",
  "adaptive_cost",
  "adaptive_search",
  "class_embeddings",
  "cluster_kmeans",
  "clustering_scores",
  "concatenated",
  "copy_detection",
  "cross_retrieval",
  "dense_probe",
  "draw_episodes",
  "draw_pairs",
  "embed",
  "episodes",
  "evaluate",
  "few_shot",
  "first_dimensions",
  "fold_accuracy",
  "format_table",
  "kmeans",
  "knn",
  "knn_predictions",
  "linear_probe",
  "matched_accuracy",
  "merged_retrieval",
  "micro_average_precision",
  "nearest_mean",
  "nearest_mean_by_cosine",
  "pixels",
  "projected",
  "ranking_scores",
  "relative_to_anchors",
  "retrieval",
  "ridge",
  "search_by_faiss",
  "search_gallery",
  "segmentation_scores",
  "sgd_probe",
  "spectrum",
  "variance_curve",
  "verification",
  "verification_scores",
  "whitened",
  "zero_shot",
  "zero_shot_by_anchors",
]
