"""Classifiers on frozen features."""

from repjax.heads.knn import knn_logits
from repjax.heads.logistic import fit_logistic, logits

__all__ = ["fit_logistic", "knn_logits", "logits"]
