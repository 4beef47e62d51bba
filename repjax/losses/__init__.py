"""Pure functions from arrays to a loss."""

from repjax.losses import distances, miners
from repjax.losses.adaptive_margin import madacos
from repjax.losses.assignments import sinkhorn
from repjax.losses.chosen_negatives import (
  averaged_info_nce,
  clustered_info_nce,
  gated_info_nce,
  hard_info_nce,
)
from repjax.losses.class_sampling import sample_classes, sample_dimensions
from repjax.losses.clustering import deepcluster, depict_targets, elr, elr_targets, scan, self_label
from repjax.losses.coding_rates import coding_rate, coding_rate_reduction, mlc
from repjax.losses.contrastive import dcl, dclw, hardness_weighted_info_nce, info_nce, nt_xent
from repjax.losses.distill import (
  attention_kl,
  feature_cosine,
  feature_l2,
  feature_smooth_l1,
  gram,
  soft_labels,
)
from repjax.losses.image_text import clip, siglip, unicl
from repjax.losses.isotropic import epps_pulley, lejepa, sigreg
from repjax.losses.language import (
  bag_of_words,
  captioning,
  next_token,
  prefix_mask,
)
from repjax.losses.latent import dmt_targets, latent_prediction, token_relation, unmasked_alignment
from repjax.losses.margin_softmax import (
  arcface,
  cosface,
  large_margin_softmax,
  normalized_softmax,
  p2s_grad,
  sphereface,
  sub_center_arcface,
)
from repjax.losses.masked import masked_pixels, masked_tokens
from repjax.losses.matching import (
  hard_negatives,
  image_text_matching,
  masked_soft_labels,
  word_region_alignment,
)
from repjax.losses.multiple_instance import mil_nce
from repjax.losses.nested import matryoshka
from repjax.losses.pair_losses import (
  contrastive_margin,
  contrastive_pairs,
  instance_loss,
  intra_pair_variance,
  margin_loss,
  snr_contrastive,
)
from repjax.losses.positives import multi_positive_info_nce, soft_target_info_nce, sup_con
from repjax.losses.predictive import cpc, curl_hinge, curl_logistic
from repjax.losses.preference import bradley_terry, general_preference
from repjax.losses.prototypes import msn, obow, obow_targets, pmsn, swav, update_word_distance
from repjax.losses.proxies import proxy_anchor, proxy_nca, soft_triple
from repjax.losses.ranking import fast_ap, histogram, smooth_ap
from repjax.losses.redundancy import barlow_twins, tico, w_mse
from repjax.losses.relational import (
  affinity_mimicking,
  kernel_match,
  relational_angle,
  relational_distance,
  similarity_preserving,
)
from repjax.losses.self_distillation import dino, dinov2, ibot, update_center
from repjax.losses.sentence import angle, cosent, guided_info_nce, margin_mse
from repjax.losses.siamese import byol, simsiam
from repjax.losses.slots import group_pixels, slot_info_nce, slotcon
from repjax.losses.sphere import alignment, joint_entropy, spectral_contrastive, uniformity
from repjax.losses.spread import emp_ssl, frossl, koleo, mmcr
from repjax.losses.structure import structure_preservation
from repjax.losses.tagging import asymmetric_multi_label
from repjax.losses.triplets import (
  centroid_triplet,
  triplet,
  triplet_all,
  triplet_hard,
  triplet_semi_hard,
)
from repjax.losses.tuplet import (
  generalized_lifted_structure,
  lifted_structure,
  n_pairs,
  nca,
  tuplet_margin,
)
from repjax.losses.variance import sie, vicreg, vicregl
from repjax.losses.wasserstein import (
  gradient_penalty,
  wasserstein_dependency,
  wasserstein_predictive,
)
from repjax.losses.weighted_pairs import angular, circle, multi_similarity, ranked_list
from repjax.losses.words import glove, skip_gram

__all__ = [
  "affinity_mimicking",
  "alignment",
  "angle",
  "angular",
  "arcface",
  "asymmetric_multi_label",
  "attention_kl",
  "averaged_info_nce",
  "bag_of_words",
  "barlow_twins",
  "bradley_terry",
  "byol",
  "captioning",
  "centroid_triplet",
  "circle",
  "clip",
  "clustered_info_nce",
  "coding_rate",
  "coding_rate_reduction",
  "contrastive_margin",
  "contrastive_pairs",
  "cosent",
  "cosface",
  "cpc",
  "curl_hinge",
  "curl_logistic",
  "dcl",
  "dclw",
  "deepcluster",
  "depict_targets",
  "dino",
  "dinov2",
  "distances",
  "dmt_targets",
  "elr",
  "elr_targets",
  "emp_ssl",
  "epps_pulley",
  "fast_ap",
  "feature_cosine",
  "feature_l2",
  "feature_smooth_l1",
  "frossl",
  "gated_info_nce",
  "general_preference",
  "generalized_lifted_structure",
  "glove",
  "gradient_penalty",
  "gram",
  "group_pixels",
  "guided_info_nce",
  "hard_info_nce",
  "hard_negatives",
  "hardness_weighted_info_nce",
  "histogram",
  "ibot",
  "image_text_matching",
  "info_nce",
  "instance_loss",
  "intra_pair_variance",
  "joint_entropy",
  "kernel_match",
  "koleo",
  "large_margin_softmax",
  "latent_prediction",
  "lejepa",
  "lifted_structure",
  "madacos",
  "margin_loss",
  "margin_mse",
  "masked_pixels",
  "masked_soft_labels",
  "masked_tokens",
  "matryoshka",
  "mil_nce",
  "miners",
  "mlc",
  "mmcr",
  "msn",
  "multi_positive_info_nce",
  "multi_similarity",
  "n_pairs",
  "nca",
  "next_token",
  "normalized_softmax",
  "nt_xent",
  "obow",
  "obow_targets",
  "p2s_grad",
  "pmsn",
  "prefix_mask",
  "proxy_anchor",
  "proxy_nca",
  "ranked_list",
  "relational_angle",
  "relational_distance",
  "sample_classes",
  "sample_dimensions",
  "scan",
  "self_label",
  "sie",
  "siglip",
  "sigreg",
  "similarity_preserving",
  "simsiam",
  "sinkhorn",
  "skip_gram",
  "slot_info_nce",
  "slotcon",
  "smooth_ap",
  "snr_contrastive",
  "soft_labels",
  "soft_target_info_nce",
  "soft_triple",
  "spectral_contrastive",
  "sphereface",
  "structure_preservation",
  "sub_center_arcface",
  "sup_con",
  "swav",
  "tico",
  "token_relation",
  "triplet",
  "triplet_all",
  "triplet_hard",
  "triplet_semi_hard",
  "tuplet_margin",
  "unicl",
  "uniformity",
  "unmasked_alignment",
  "update_center",
  "update_word_distance",
  "vicreg",
  "vicregl",
  "w_mse",
  "wasserstein_dependency",
  "wasserstein_predictive",
  "word_region_alignment",
]
