"""Learners: one method, one short file."""

from repjax.learners.learner import GradientState, Learner, Objective, by_gradient
from repjax.learners.simclr import simclr
from repjax.learners.simmim import Reconstruction, reconstruct, simmim
from repjax.learners.supervised import supervised

__all__ = [
  "GradientState",
  "Learner",
  "Objective",
  "Reconstruction",
  "by_gradient",
  "reconstruct",
  "simclr",
  "simmim",
  "supervised",
]
