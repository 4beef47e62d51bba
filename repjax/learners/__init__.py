"""Learners: one method, one short file."""

from repjax.learners.autoencoder import autoencoder
from repjax.learners.byol import byol
from repjax.learners.deepercluster import cluster_labels, deepercluster, restart_heads
from repjax.learners.dino import dino
from repjax.learners.equivariant_points import equivariant_points
from repjax.learners.feature_synthesis import feature_synthesis
from repjax.learners.learner import GradientState, Learner, Objective, by_gradient
from repjax.learners.meta_update import UpdateRule, meta_update
from repjax.learners.moco import moco, moco_v3
from repjax.learners.network import Embedding, Network
from repjax.learners.rotnet import rotnet
from repjax.learners.sepclr import Separation, sepclr
from repjax.learners.sie import Hypernetwork, Split, sie
from repjax.learners.simclr import simclr
from repjax.learners.simmim import Reconstruction, reconstruct, simmim
from repjax.learners.supervised import supervised
from repjax.learners.teacher import rising_momentum
from repjax.learners.transitive_invariance import chains, inter_edges, transitive_invariance
from repjax.learners.views import Crops, Seen, joint_embedding

__all__ = [
  "Crops",
  "Embedding",
  "GradientState",
  "Hypernetwork",
  "Learner",
  "Network",
  "Objective",
  "Reconstruction",
  "Seen",
  "Separation",
  "Split",
  "UpdateRule",
  "autoencoder",
  "by_gradient",
  "byol",
  "chains",
  "cluster_labels",
  "deepercluster",
  "dino",
  "equivariant_points",
  "feature_synthesis",
  "inter_edges",
  "joint_embedding",
  "meta_update",
  "moco",
  "moco_v3",
  "reconstruct",
  "restart_heads",
  "rising_momentum",
  "rotnet",
  "sepclr",
  "sie",
  "simclr",
  "simmim",
  "supervised",
  "transitive_invariance",
]
