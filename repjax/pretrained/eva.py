"""timm's Eva by name: EVA, EVA-02, DINOv3, Perception Encoder, others with rotary positions."""

import functools

from repjax.encoders.positions import rotary_axial
from repjax.encoders.vit import SIZES, Size
from repjax.pretrained.preprocessing import CLIP, HALF, IMAGENET
from repjax.pretrained.styles import (
  BETWIXT,
  GIANT_GATED,
  MEDIUM,
  MEDIUM_D,
  Entry,
  but,
  gated,
  style,
)
from repjax.pretrained.vit import (
  PROJECTIONS,
  TIMM_BEIT,
  TIMM_DINOV3,
  TIMM_EVA02,
  TIMM_EVA02_APART,
  TIMM_ROPE,
)

# Another grid spans the angles of 16 by 16 patches.
_SPAN = functools.partial(rotary_axial, reference=(16, 16))
_AXIAL = functools.partial(rotary_axial, temperature=100.0, columns_first=True)
_SATELLITE = {"mean": (0.43, 0.411, 0.296), "std": (0.213, 0.156, 0.143)}
_BIASES = ("attn.q_bias", "attn.v_bias")

_EVA = style(
  TIMM_BEIT, CLIP, positions="learned", pool="mean", class_token=True, norm_after_pool=True
)
_EVA_WHOLE = but(_EVA, crop=1.0, squash=True)
_EVA_M30M = but(_EVA_WHOLE, mean=IMAGENET[0], std=IMAGENET[1])
# Pooled after the final norm rather than before.
_TOKEN = {"pool": "cls", "norm_after_pool": False}
_EVA_CLIP = but(_EVA, TIMM_BEIT._replace(norm="norm"), **_TOKEN)

_EVA02 = gated(but(_EVA, TIMM_EVA02, rotary=_SPAN))
_EVA02_SHARP = but(_EVA02, crop=1.0)
_EVA02_APART = but(_EVA02, TIMM_EVA02_APART, mlp_norm=True)
_EVA02_APART_SHARP = but(_EVA02_APART, crop=1.0)
_EVA02_APART_WHOLE = but(_EVA02_APART, crop=1.0, squash=True)
_EVA02_CLIP = but(
  _EVA02_APART, TIMM_EVA02_APART._replace(norm="norm"), attention_norm=True, **_TOKEN
)
_EVA02_CLIP_SHARP = but(_EVA02_CLIP, crop=1.0)

_ROPE = style(TIMM_ROPE, positions="rotary", rotary=_AXIAL, pool="cls", layer_scale=1e-5)
_ROPE_MIXED = but(_ROPE, rotary="mixed")
_ROPE_APE, _ROPE_MIXED_APE = (
  but(x, positions="learned", class_position=False) for x in (_ROPE, _ROPE_MIXED)
)
_ROPE_GAP = style(
  TIMM_EVA02,
  HALF,
  0.95,
  positions="rotary",
  rotary=_SPAN,
  pool="mean",
  class_token=False,
  registers=1,
  norm_after_pool=True,
  layer_scale=1e-5,
)
_ROPE_GAP_UNBIASED = but(_ROPE_GAP, TIMM_EVA02._replace(biases=(), unbiased=PROJECTIONS))
_ROPE_GAP_REG4 = but(_ROPE_GAP, registers=4, mean=CLIP[0], std=CLIP[1])


# The Perception Encoder. Its patches are counted from 1, but not in the largest, which has no class
# token.
_PE = style(
  TIMM_ROPE,
  HALF,
  crop=1.0,
  positions="learned",
  class_token=True,
  patch_bias=False,
  embedding_norm=True,
  epsilon=1e-5,
)
_counted = lambda side, start=1.0: functools.partial(
  rotary_axial, reference=(side, side), columns_first=True, start=start
)
_core = lambda width, rotary, **options: but(
  _PE, pool="attention", pool_prefix=True, pool_size=(8, 4 * width), rotary=rotary, **options
)
_PE_CORE_TI, _PE_CORE_S, _PE_CORE_L = (_core(dim, _counted(24)) for dim in (192, 384, 1024))
_PE_CORE_B = _core(768, _counted(14))
_PE_CORE_G = _core(1536, _counted(32, 0.0), class_token=False)
_PE_SPATIAL = but(_PE, pool="mean", final_norm=False, rotary=_counted(32))
_PE_LANG = but(_PE_SPATIAL, layer_scale=0.1)
_PE_LANG_G = but(_PE_LANG, rotary=_counted(32, 0.0), class_token=False)

_DINOV3 = style(
  TIMM_DINOV3,
  crop=1.0,
  layer_scale=1e-5,
  registers=4,
  class_token=True,
  positions="rotary",
  pool="mean",
  epsilon=1e-5,
)
_DINOV3_SAT = but(_DINOV3, **_SATELLITE)
_DINOV3_BIASED, _DINOV3_SAT_BIASED = (
  but(x, TIMM_DINOV3._replace(unbiased=("key",), biases=_BIASES)) for x in (_DINOV3, _DINOV3_SAT)
)
_DINOV3_GATED, _DINOV3_SAT_GATED, _DINOV3_GATED_BIASED = (
  gated(but(x, x.names._replace(mlp=TIMM_EVA02_APART.mlp)))
  for x in (_DINOV3, _DINOV3_SAT, _DINOV3_BIASED)
)

# As DINOv3 with biases, whose class token stands for the image.
_LINGBOT = but(_DINOV3_BIASED, pool="cls", filter="bilinear", squash=True)
_LINGBOT_GATED = but(_DINOV3_GATED, pool="cls", filter="bilinear", squash=True)

_TI, _S, _B, _L, _H, _G = (SIZES[name] for name in ("ti", "s", "b", "l", "h", "g"))
_TI_GLU, _S_GLU = _TI._replace(mlp_dim=512), _S._replace(mlp_dim=1024)
_B_GLU, _L_GLU = _B._replace(mlp_dim=2048), _L._replace(mlp_dim=2730)
_H_20 = _H._replace(heads=20)
_7B = Size(4096, 40, 32, 8192)
_PE_G = Size(1536, 50, 16, 8960)

#: As `TIMM_VITS`, of which these are a part.
EVA_VITS = {
  "vit_small_patch16_dinov3": Entry(_DINOV3, _S, 16, 256),
  "vit_small_plus_patch16_dinov3": Entry(_DINOV3_GATED, _S, 16, 256),
  "vit_base_patch16_dinov3": Entry(_DINOV3, _B, 16, 256),
  "vit_large_patch16_dinov3": Entry(_DINOV3, _L, 16, 256),
  "vit_large_patch16_dinov3.sat493m": Entry(_DINOV3_SAT, _L, 16, 256),
  "vit_huge_plus_patch16_dinov3": Entry(_DINOV3_GATED, _H_20, 16, 256),
  "vit_7b_patch16_dinov3": Entry(_DINOV3_GATED, _7B, 16, 256),
  "vit_7b_patch16_dinov3.sat493m": Entry(_DINOV3_SAT_GATED, _7B, 16, 256),
  "vit_tiny_patch16_dinov3_qkvb": Entry(_DINOV3_BIASED, _TI, 16, 256),
  "vit_small_patch16_dinov3_qkvb": Entry(_DINOV3_BIASED, _S, 16, 256),
  "vit_small_plus_patch16_dinov3_qkvb": Entry(_DINOV3_GATED_BIASED, _S, 16, 256),
  "vit_base_patch16_dinov3_qkvb": Entry(_DINOV3_BIASED, _B, 16, 256),
  "vit_large_patch16_dinov3_qkvb": Entry(_DINOV3_BIASED, _L, 16, 256),
  "vit_large_patch16_dinov3_qkvb.sat493m": Entry(_DINOV3_SAT_BIASED, _L, 16, 256),
  "vit_huge_plus_patch16_dinov3_qkvb": Entry(_DINOV3_GATED_BIASED, _H_20, 16, 256),
  "vit_small_patch16_lingbot": Entry(_LINGBOT, _S, 16, 512),
  "vit_base_patch16_lingbot": Entry(_LINGBOT, _B, 16, 512),
  "vit_large_patch16_lingbot": Entry(_LINGBOT, _L, 16, 512),
  "vit_giant_patch16_lingbot": Entry(_LINGBOT_GATED, GIANT_GATED, 16, 512),
  "vit_pe_core_tiny_patch16_384": Entry(_PE_CORE_TI, _TI, 16, 384),
  "vit_pe_core_small_patch16_384": Entry(_PE_CORE_S, _S, 16, 384),
  "vit_pe_core_base_patch16_224": Entry(_PE_CORE_B, _B, 16, 224),
  "vit_pe_core_large_patch14_336": Entry(_PE_CORE_L, _L, 14, 336),
  "vit_pe_core_gigantic_patch14_448": Entry(_PE_CORE_G, _PE_G, 14, 448),
  "vit_pe_lang_large_patch14_448": Entry(_PE_LANG, _L._replace(depth=23), 14, 448),
  "vit_pe_lang_gigantic_patch14_448": Entry(_PE_LANG_G, _PE_G._replace(depth=47), 14, 448),
  "vit_pe_spatial_tiny_patch16_512": Entry(_PE_SPATIAL, _TI, 16, 512),
  "vit_pe_spatial_small_patch16_512": Entry(_PE_SPATIAL, _S, 16, 512),
  "vit_pe_spatial_base_patch16_512": Entry(_PE_SPATIAL, _B, 16, 512),
  "vit_pe_spatial_large_patch14_448": Entry(_PE_SPATIAL, _L, 14, 448),
  "vit_pe_spatial_gigantic_patch14_448": Entry(_PE_LANG_G, _PE_G, 14, 448),
  "vit_small_patch16_rope_224": Entry(_ROPE, _S, 16, 224),
  "vit_base_patch16_rope_224": Entry(_ROPE, _B, 16, 224),
  "vit_large_patch16_rope_224": Entry(_ROPE, _L, 16, 224),
  "vit_small_patch16_rope_ape_224": Entry(_ROPE_APE, _S, 16, 224),
  "vit_base_patch16_rope_ape_224": Entry(_ROPE_APE, _B, 16, 224),
  "vit_large_patch16_rope_ape_224": Entry(_ROPE_APE, _L, 16, 224),
  "vit_small_patch16_rope_mixed_224": Entry(_ROPE_MIXED, _S, 16, 224),
  "vit_base_patch16_rope_mixed_224": Entry(_ROPE_MIXED, _B, 16, 224),
  "vit_large_patch16_rope_mixed_224": Entry(_ROPE_MIXED, _L, 16, 224),
  "vit_small_patch16_rope_mixed_ape_224": Entry(_ROPE_MIXED_APE, _S, 16, 224),
  "vit_base_patch16_rope_mixed_ape_224": Entry(_ROPE_MIXED_APE, _B, 16, 224),
  "vit_large_patch16_rope_mixed_ape_224": Entry(_ROPE_MIXED_APE, _L, 16, 224),
  "vit_medium_patch16_rope_reg1_gap_256": Entry(_ROPE_GAP, MEDIUM, 16, 256),
  "vit_mediumd_patch16_rope_reg1_gap_256": Entry(_ROPE_GAP_UNBIASED, MEDIUM_D, 16, 256),
  "vit_betwixt_patch16_rope_reg4_gap_256": Entry(_ROPE_GAP_REG4, BETWIXT, 16, 256),
  "vit_base_patch16_rope_reg1_gap_256": Entry(_ROPE_GAP, _B, 16, 256),
  "eva_giant_patch14_224": Entry(_EVA, _G, 14, 224),
  "eva_giant_patch14_336": Entry(_EVA_WHOLE, _G, 14, 336),
  "eva_giant_patch14_336.m30m_ft_in22k_in1k": Entry(_EVA_M30M, _G, 14, 336),
  "eva_giant_patch14_560": Entry(_EVA_M30M, _G, 14, 560),
  "eva_giant_patch14_clip_224": Entry(_EVA_CLIP, _G, 14, 224),
  "eva02_tiny_patch14_224": Entry(_EVA02, _TI_GLU, 14, 224),
  "eva02_small_patch14_224": Entry(_EVA02, _S_GLU, 14, 224),
  "eva02_base_patch14_224": Entry(_EVA02_APART, _B_GLU, 14, 224),
  "eva02_large_patch14_224": Entry(_EVA02_APART, _L_GLU, 14, 224),
  "eva02_tiny_patch14_336": Entry(_EVA02_SHARP, _TI_GLU, 14, 336),
  "eva02_small_patch14_336": Entry(_EVA02_SHARP, _S_GLU, 14, 336),
  "eva02_base_patch14_448": Entry(_EVA02_APART_WHOLE, _B_GLU, 14, 448),
  "eva02_base_patch14_448.mim_in22k_ft_in1k": Entry(_EVA02_APART_SHARP, _B_GLU, 14, 448),
  "eva02_large_patch14_448": Entry(_EVA02_APART_WHOLE, _L_GLU, 14, 448),
  "eva02_large_patch14_448.mim_in22k_ft_in1k": Entry(_EVA02_APART_SHARP, _L_GLU, 14, 448),
  "eva02_large_patch14_448.mim_m38m_ft_in1k": Entry(_EVA02_APART_SHARP, _L_GLU, 14, 448),
  "eva02_base_patch16_clip_224": Entry(_EVA02_CLIP, _B_GLU, 16, 224),
  "eva02_large_patch14_clip_224": Entry(_EVA02_CLIP, _L_GLU, 14, 224),
  "eva02_large_patch14_clip_336": Entry(_EVA02_CLIP_SHARP, _L_GLU, 14, 336),
}
