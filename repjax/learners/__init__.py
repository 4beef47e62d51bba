"""Learners: one method, one short file."""

from repjax.learners.agglomerate import Graph, first_clusters, merge_clusters, neighbor_graph
from repjax.learners.architecture_search import architecture_search
from repjax.learners.autoencoder import autoencoder
from repjax.learners.barlow_twins import barlow_twins
from repjax.learners.bt2 import bt2
from repjax.learners.byol import byol
from repjax.learners.ccd import ccd
from repjax.learners.cmim import cmim
from repjax.learners.compatible import compatible
from repjax.learners.cpc import cpc
from repjax.learners.curl import curl
from repjax.learners.data2vec import data2vec
from repjax.learners.deepercluster import cluster_labels, deepercluster, restart_heads
from repjax.learners.depict import centroid_head, depict
from repjax.learners.dino import dino
from repjax.learners.dinov2 import dinov2
from repjax.learners.dmt_jepa import Aggregator, dmt_jepa
from repjax.learners.entropic_student import coded_classifier, entropic_student, tuned_student
from repjax.learners.equivariant_points import equivariant_points
from repjax.learners.fcpl import fcpl
from repjax.learners.feature_synthesis import feature_synthesis
from repjax.learners.hybrid_distill import hybrid_distill
from repjax.learners.hydra import PairGates, hydra
from repjax.learners.ibot import ibot
from repjax.learners.ijepa import ijepa
from repjax.learners.jule import jule, unrolled
from repjax.learners.learner import GradientState, Learner, Objective, by_gradient
from repjax.learners.lejepa import lejepa
from repjax.learners.llave import llave
from repjax.learners.mae import mae, reconstruct_mae
from repjax.learners.masking import Reconstruction
from repjax.learners.mcl import clusters, mcl
from repjax.learners.mcr import Fusion, mcr
from repjax.learners.meta_update import UpdateRule, meta_update
from repjax.learners.mist import Joint, mist, normal_scores
from repjax.learners.mlc import TwoHeads, memberships, mlc, spectral_clusters
from repjax.learners.moco import moco, moco_v3
from repjax.learners.mrl import mrl
from repjax.learners.msn import msn
from repjax.learners.network import Embedding, Network
from repjax.learners.nnclr import nnclr
from repjax.learners.obow import obow
from repjax.learners.referential_game import referential_game, symbols
from repjax.learners.rotnet import rotnet
from repjax.learners.scan import scan, self_label
from repjax.learners.self_distillation import self_distillation
from repjax.learners.sepclr import Separation, sepclr
from repjax.learners.sie import Hypernetwork, Split, sie
from repjax.learners.simclr import simclr
from repjax.learners.simmim import reconstruct, simmim
from repjax.learners.simsiam import simsiam
from repjax.learners.slotcon import slotcon
from repjax.learners.start import start_from
from repjax.learners.sup_con import sup_con
from repjax.learners.supervised import supervised
from repjax.learners.swav import swav
from repjax.learners.t_jepa import t_jepa
from repjax.learners.teacher import Teacher, rising_momentum, rising_temperature
from repjax.learners.transitive_invariance import chains, transitive_invariance
from repjax.learners.umt import AlignmentHeads, umt
from repjax.learners.usi import usi
from repjax.learners.vicreg import vicreg
from repjax.learners.views import Crops, Seen, joint_embedding

__all__ = [
  "Aggregator",
  "AlignmentHeads",
  "Crops",
  "Embedding",
  "Fusion",
  "GradientState",
  "Graph",
  "Hypernetwork",
  "Joint",
  "Learner",
  "Network",
  "Objective",
  "PairGates",
  "Reconstruction",
  "Seen",
  "Separation",
  "Split",
  "Teacher",
  "TwoHeads",
  "UpdateRule",
  "architecture_search",
  "autoencoder",
  "barlow_twins",
  "bt2",
  "by_gradient",
  "byol",
  "ccd",
  "centroid_head",
  "chains",
  "cluster_labels",
  "clusters",
  "cmim",
  "coded_classifier",
  "compatible",
  "cpc",
  "curl",
  "data2vec",
  "deepercluster",
  "depict",
  "dino",
  "dinov2",
  "dmt_jepa",
  "entropic_student",
  "equivariant_points",
  "fcpl",
  "feature_synthesis",
  "first_clusters",
  "hybrid_distill",
  "hydra",
  "ibot",
  "ijepa",
  "joint_embedding",
  "jule",
  "lejepa",
  "llave",
  "mae",
  "mcl",
  "mcr",
  "memberships",
  "merge_clusters",
  "meta_update",
  "mist",
  "mlc",
  "moco",
  "moco_v3",
  "mrl",
  "msn",
  "neighbor_graph",
  "nnclr",
  "normal_scores",
  "obow",
  "reconstruct",
  "reconstruct_mae",
  "referential_game",
  "restart_heads",
  "rising_momentum",
  "rising_temperature",
  "rotnet",
  "scan",
  "self_distillation",
  "self_label",
  "sepclr",
  "sie",
  "simclr",
  "simmim",
  "simsiam",
  "slotcon",
  "spectral_clusters",
  "start_from",
  "sup_con",
  "supervised",
  "swav",
  "symbols",
  "t_jepa",
  "transitive_invariance",
  "tuned_student",
  "umt",
  "unrolled",
  "usi",
  "vicreg",
]
