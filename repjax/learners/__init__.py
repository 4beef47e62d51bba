"""Learners: one method, one short file."""

from repjax.learners.byol import byol
from repjax.learners.cmim import cmim
from repjax.learners.cpc import cpc
from repjax.learners.data2vec import data2vec
from repjax.learners.dino import dino
from repjax.learners.dmt_jepa import Aggregator, dmt_jepa
from repjax.learners.hybrid_distill import hybrid_distill
from repjax.learners.ijepa import ijepa
from repjax.learners.learner import GradientState, Learner, Objective, by_gradient
from repjax.learners.mae import mae, reconstruct_mae
from repjax.learners.masking import Reconstruction
from repjax.learners.moco import moco, moco_v3
from repjax.learners.network import Embedding, Network
from repjax.learners.simclr import simclr
from repjax.learners.simmim import reconstruct, simmim
from repjax.learners.supervised import supervised
from repjax.learners.t_jepa import t_jepa
from repjax.learners.teacher import Teacher, rising_momentum
from repjax.learners.umt import AlignmentHeads, umt
from repjax.learners.views import Crops, Seen, joint_embedding

__all__ = [
  "Aggregator",
  "AlignmentHeads",
  "Crops",
  "Embedding",
  "GradientState",
  "Learner",
  "Network",
  "Objective",
  "Reconstruction",
  "Seen",
  "Teacher",
  "by_gradient",
  "byol",
  "cmim",
  "cpc",
  "data2vec",
  "dino",
  "dmt_jepa",
  "hybrid_distill",
  "ijepa",
  "joint_embedding",
  "mae",
  "moco",
  "moco_v3",
  "reconstruct",
  "reconstruct_mae",
  "rising_momentum",
  "simclr",
  "simmim",
  "supervised",
  "t_jepa",
  "umt",
]
