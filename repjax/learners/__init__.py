"""Learners: one method, one short file."""

from repjax.learners.agglomerate import Graph, first_clusters, merge_clusters, neighbor_graph
from repjax.learners.byol import byol
from repjax.learners.depict import centroid_head, depict
from repjax.learners.dino import dino
from repjax.learners.jule import jule, unrolled
from repjax.learners.learner import GradientState, Learner, Objective, by_gradient
from repjax.learners.mlc import TwoHeads, memberships, mlc, spectral_clusters
from repjax.learners.moco import moco, moco_v3
from repjax.learners.network import Embedding, Network
from repjax.learners.scan import mine_neighbors, scan, self_label
from repjax.learners.simclr import simclr
from repjax.learners.simmim import Reconstruction, reconstruct, simmim
from repjax.learners.start import start_from
from repjax.learners.supervised import supervised
from repjax.learners.teacher import rising_momentum
from repjax.learners.views import Crops, Seen, joint_embedding

__all__ = [
  "Crops",
  "Embedding",
  "GradientState",
  "Graph",
  "Learner",
  "Network",
  "Objective",
  "Reconstruction",
  "Seen",
  "TwoHeads",
  "by_gradient",
  "byol",
  "centroid_head",
  "depict",
  "dino",
  "first_clusters",
  "joint_embedding",
  "jule",
  "memberships",
  "merge_clusters",
  "mine_neighbors",
  "mlc",
  "moco",
  "moco_v3",
  "neighbor_graph",
  "reconstruct",
  "rising_momentum",
  "scan",
  "self_label",
  "simclr",
  "simmim",
  "spectral_clusters",
  "start_from",
  "supervised",
  "unrolled",
]
