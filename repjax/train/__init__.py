"""Training: a learner and its batches to checkpoints."""

from repjax.train.checkpoint import Checkpoints
from repjax.train.feed import Feed
from repjax.train.loop import Result, Schedule, train
from repjax.train.mesh import batch_sharding, make_mesh, replicated
from repjax.train.step import compile_update, init_state

__all__ = [
  "Checkpoints",
  "Feed",
  "Result",
  "Schedule",
  "batch_sharding",
  "compile_update",
  "init_state",
  "make_mesh",
  "replicated",
  "train",
]
