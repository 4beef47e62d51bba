"""Writes eva.npz: what timm's Eva makes of weights drawn by a rule, in each of its styles.

pip install -r tests/oracles/requirements.txt && python tests/oracles/eva.py
"""

import functools
import pathlib

import numpy as np
import timm
import torch
from drawn import draw, images
from timm.models.eva import Eva

ROPE = {
  "attn_type": "rope", "init_values": 1.0, "global_pool": "token", "use_abs_pos_emb": False,
  "use_rot_pos_emb": True, "rope_grid_indexing": "xy", "rope_temperature": 100.0,
}  # fmt: skip
MIXED_APE = {
  "rope_type": "mixed", "rope_temperature": 10.0, "use_abs_pos_emb": True, "no_embed_class": True,
}  # fmt: skip
GAP = {
  "init_values": 1.0, "class_token": False, "use_rot_pos_emb": True, "use_abs_pos_emb": False,
  "ref_feat_shape": (16, 16),
}  # fmt: skip
EVA02 = {
  "mlp_ratio": 4 * 2 / 3, "swiglu_mlp": True, "use_rot_pos_emb": True, "ref_feat_shape": (16, 16),
}  # fmt: skip
APART = {**EVA02, "qkv_fused": False, "scale_mlp": True}
DINOV3 = {
  "init_values": 1.0, "rope_type": "dinov3", "rope_temperature": 100, "rope_rotate_half": True,
  "use_rot_pos_emb": True, "use_abs_pos_emb": False, "num_reg_tokens": 4, "use_fc_norm": False,
  "norm_layer": functools.partial(timm.layers.LayerNorm, eps=1e-5),
}  # fmt: skip
PE = {
  "attn_type": "rope", "use_pre_transformer_norm": True, "use_rot_pos_emb": True,
  "rope_grid_indexing": "xy", "norm_layer": functools.partial(timm.layers.LayerNorm, eps=1e-5),
}  # fmt: skip
PE_CORE = {
  **PE, "global_pool": "map", "attn_pool_num_heads": 8, "attn_pool_mlp_ratio": 2.0,
  "ref_feat_shape": (14, 14), "rope_grid_offset": 1.0,
}  # fmt: skip
PE_SPATIAL = {
  **PE, "use_post_transformer_norm": False, "use_fc_norm": False, "ref_feat_shape": (32, 32),
  "rope_grid_offset": 1.0,
}  # fmt: skip
CASES = {
  "rope": ROPE,
  "rope_ape": {**ROPE, "use_abs_pos_emb": True, "no_embed_class": True},
  "rope_mixed": {**ROPE, "rope_type": "mixed", "rope_temperature": 10.0},
  "rope_mixed_ape": {**ROPE, **MIXED_APE},
  "rope_gap": {**GAP, "num_reg_tokens": 1},
  "rope_gap_unbiased": {**GAP, "num_reg_tokens": 1, "qkv_bias": False},
  "rope_gap_reg4": {**GAP, "num_reg_tokens": 4},
  "eva": {},
  "eva_clip": {"global_pool": "token"},
  "eva02": EVA02,
  "eva02_apart": APART,
  "eva02_clip": {**APART, "scale_attn_inner": True, "global_pool": "token"},
  "pe_core": PE_CORE,
  "pe_spatial": PE_SPATIAL,
  "pe_lang_gigantic": {
    **PE_SPATIAL,
    "class_token": False,
    "rope_grid_offset": 0.0,
    "init_values": 1.0,
  },
  "dinov3_biased": DINOV3,
  "dinov3_gated_biased": {**DINOV3, "swiglu_mlp": True, "swiglu_align_to": 8},
}


def main() -> None:
  out = {}
  small = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}
  for case, options in CASES.items():
    model = Eva(**small, **options, num_classes=0, dynamic_img_size=True)
    out[f"{case}/shapes"] = draw(model)
    with torch.no_grad():
      # timm gives the tokens in front of the patches apart, and fails where there are none.
      front = model.num_prefix_tokens > 0
      _, layers = model.forward_intermediates(
        images(32), output_fmt="NLC", return_prefix_tokens=front
      )
      layers = [torch.cat([x[1], x[0]], 1) if front else x for x in layers]
      out[f"{case}/layers"] = np.stack(layers)
      out[f"{case}/pooled"] = model(images(32)).numpy()
      # Another size: 3 by 6 patches.
      out[f"{case}/wide"] = model(images(24, 48)).numpy()
  np.savez_compressed(pathlib.Path(__file__).with_suffix(".npz"), **out)


if __name__ == "__main__":
  main()
