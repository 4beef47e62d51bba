"""Learners: one method, one short file."""

from repjax.learners.byol import byol
from repjax.learners.ccd import ccd
from repjax.learners.dino import dino
from repjax.learners.dinov2 import dinov2
from repjax.learners.ibot import ibot
from repjax.learners.learner import GradientState, Learner, Objective, by_gradient
from repjax.learners.moco import moco, moco_v3
from repjax.learners.msn import msn
from repjax.learners.network import Embedding, Network
from repjax.learners.obow import obow
from repjax.learners.simclr import simclr
from repjax.learners.simmim import Reconstruction, reconstruct, simmim
from repjax.learners.slotcon import slotcon
from repjax.learners.supervised import supervised
from repjax.learners.teacher import rising_momentum, rising_temperature
from repjax.learners.views import Crops, Seen, joint_embedding

__all__ = [
  "Crops",
  "Embedding",
  "GradientState",
  "Learner",
  "Network",
  "Objective",
  "Reconstruction",
  "Seen",
  "by_gradient",
  "byol",
  "ccd",
  "dino",
  "dinov2",
  "ibot",
  "joint_embedding",
  "moco",
  "moco_v3",
  "msn",
  "obow",
  "reconstruct",
  "rising_momentum",
  "rising_temperature",
  "simclr",
  "simmim",
  "slotcon",
  "supervised",
]
