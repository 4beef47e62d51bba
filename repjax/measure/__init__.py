"""Measures: arrays to numbers."""

from repjax.measure import minibatch_cka
from repjax.measure.alignment import cka, linear_cka
from repjax.measure.kernels import centre_gram, hsic, linear_gram, rbf_gram
from repjax.measure.layers import similarity_matrix
from repjax.measure.spectrum import rank_me
from repjax.measure.sphere import uniformity

__all__ = [
  "centre_gram",
  "cka",
  "hsic",
  "linear_cka",
  "linear_gram",
  "minibatch_cka",
  "rank_me",
  "rbf_gram",
  "similarity_matrix",
  "uniformity",
]
