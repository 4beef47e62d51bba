"""timm's VisionTransformer and Beit by name: AugReg and DeiT, DINO and MAE, CLIP and SigLIP."""

from repjax.encoders.transformer import gelu_tanh, quick_gelu
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
from repjax.pretrained.vit import PROJECTIONS, TIMM, TIMM_BEIT

_LEARNED = {"positions": "learned", "pool": "cls"}
_AUGREG = style(statistics=HALF, **_LEARNED)
_DEIT = style(**_LEARNED)
_DEIT_SHARP = but(_DEIT, crop=1.0)
_DEIT_TWO = but(_DEIT, distillation_token=True)
_IJEPA = style(positions="learned", pool="mean", class_token=False)
_DINOV2 = style(crop=1.0, layer_scale=1e-5, **_LEARNED)
_DINOV2_REG = style(crop=1.0, layer_scale=1e-5, registers=4, class_position=False, **_LEARNED)
_SIGLIP = style(statistics=HALF, positions="learned", pool="attention", class_token=False)
_CLIP = style(statistics=CLIP, patch_bias=False, embedding_norm=True, epsilon=1e-5, **_LEARNED)
_CLIP_L = but(_CLIP, crop=1.0)
_CLIP_QUICK, _CLIP_L_QUICK = (but(x, activation=quick_gelu) for x in (_CLIP, _CLIP_L))
_BEIT = style(
  TIMM_BEIT,
  HALF,
  positions="relative",
  pool="mean",
  class_token=True,
  norm_after_pool=True,
  layer_scale=0.1,
)
_BEIT_SHARP = but(_BEIT, crop=1.0)
_BEITV2 = but(_BEIT, mean=IMAGENET[0], std=IMAGENET[1])
_ZERO_ONE = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_AUGREG_SHARP = but(_AUGREG, crop=1.0)
_DEIT3 = but(_DEIT, class_position=False, layer_scale=1e-6)
_DEIT3_SHARP = but(_DEIT3, crop=1.0)
_FLEXI = but(_AUGREG, crop=0.95, class_position=False)
_UNBIASED = TIMM._replace(unbiased=PROJECTIONS)
_MIIL = style(_UNBIASED, _ZERO_ONE, 0.875, filter="bilinear", **_LEARNED)
_TIPS = style(TIMM, _ZERO_ONE, 1.0, layer_scale=1.0, registers=1, class_position=False, **_LEARNED)
# Nothing is normed behind the last block of these.
_INTERN = but(_DINOV2, layer_scale=0.1, final_norm=False)
_RADIO = style(TIMM, CLIP, 1.0, registers=7, class_position=False, final_norm=False, **_LEARNED)
_RADIO_SCALED, _RADIO_V4 = but(_RADIO, layer_scale=1e-5), but(_RADIO, registers=9)
_SIGLIP_TANH = but(_SIGLIP, activation=gelu_tanh)
_SIGLIP_GAP, _SIGLIP_GAP_TANH = (but(x, pool="mean") for x in (_SIGLIP, _SIGLIP_TANH))
_SIGLIP_GAP_SHARP = but(_SIGLIP_GAP, crop=1.0)
_CLIP_L_WHOLE = but(_CLIP_L, squash=True)
# Pooled by the mean, and normed after that.
_MEANS = {"positions": "learned", "pool": "mean", "norm_after_pool": True}
_FC_NORM = TIMM._replace(norm="fc_norm")
_EVA_L = style(_FC_NORM, CLIP, 1.0, class_token=True, **_MEANS)
_EVA_L_WHOLE = but(_EVA_L, squash=True)
_BEIT3 = style(
  _FC_NORM, crop=1.0, class_token=True, attention_norm=True, mlp_norm=True, epsilon=1e-5, **_MEANS
)
_GAP_REG1 = style(_FC_NORM, HALF, 0.95, class_token=False, registers=1, layer_scale=1e-5, **_MEANS)
_GAP_REG4 = but(_GAP_REG1, registers=4)
_GAP_REG4_SHARP = but(_GAP_REG4, crop=1.0)
_GAP_UNBIASED = but(_IJEPA, _UNBIASED, mean=HALF[0], std=HALF[1], crop=0.95, layer_scale=1e-6)

_TI, _S, _B, _L, _H, _G = (SIZES[name] for name in ("ti", "s", "b", "l", "h", "g"))
_SO400M = Size(1152, 27, 16, 4304)
_XS, _WEE, _LITTLE = Size(256, 10, 4, 1024), Size(256, 14, 4, 1280), Size(320, 14, 5, 1792)
_G_OPT, _G_RADIO = Size(1536, 40, 16, 6144), Size(1536, 40, 24, 6144)

#: As `TIMM_VITS`, of which these are a part.
PLAIN_VITS = {
  "vit_tiny_patch16_224": Entry(_AUGREG, _TI, 16, 224),
  "vit_small_patch16_224": Entry(_AUGREG, _S, 16, 224),
  "vit_small_patch16_224.dino": Entry(_DEIT, _S, 16, 224),
  "vit_small_patch8_224.dino": Entry(_DEIT, _S, 8, 224),
  "vit_small_patch32_224": Entry(_AUGREG, _S, 32, 224),
  "vit_base_patch8_224": Entry(_AUGREG, _B, 8, 224),
  "vit_base_patch8_224.dino": Entry(_DEIT, _B, 8, 224),
  "vit_base_patch16_224": Entry(_AUGREG, _B, 16, 224),
  "vit_base_patch16_224.dino": Entry(_DEIT, _B, 16, 224),
  "vit_base_patch16_224.mae": Entry(_DEIT, _B, 16, 224),
  "vit_base_patch32_224": Entry(_AUGREG, _B, 32, 224),
  "vit_large_patch16_224": Entry(_AUGREG, _L, 16, 224),
  "vit_large_patch16_224.mae": Entry(_DEIT, _L, 16, 224),
  "vit_huge_patch14_224.mae": Entry(_DEIT, _H, 14, 224),
  "deit_tiny_patch16_224": Entry(_DEIT, _TI, 16, 224),
  "deit_small_patch16_224": Entry(_DEIT, _S, 16, 224),
  "deit_base_patch16_224": Entry(_DEIT, _B, 16, 224),
  "deit_base_patch16_384": Entry(_DEIT_SHARP, _B, 16, 384),
  "deit_tiny_distilled_patch16_224": Entry(_DEIT_TWO, _TI, 16, 224),
  "deit_small_distilled_patch16_224": Entry(_DEIT_TWO, _S, 16, 224),
  "deit_base_distilled_patch16_224": Entry(_DEIT_TWO, _B, 16, 224),
  "deit_base_distilled_patch16_384": Entry(but(_DEIT_TWO, crop=1.0), _B, 16, 384),
  "vit_huge_patch14_gap_224.in1k_ijepa": Entry(_IJEPA, _H, 14, 224),
  "vit_huge_patch14_gap_224.in22k_ijepa": Entry(_IJEPA, _H, 14, 224),
  "vit_giant_patch16_gap_224.in22k_ijepa": Entry(_IJEPA, _G, 16, 224),
  "vit_small_patch14_dinov2": Entry(_DINOV2, _S, 14, 518),
  "vit_base_patch14_dinov2": Entry(_DINOV2, _B, 14, 518),
  "vit_large_patch14_dinov2": Entry(_DINOV2, _L, 14, 518),
  "vit_giant_patch14_dinov2": Entry(gated(_DINOV2), GIANT_GATED, 14, 518),
  "vit_small_patch14_reg4_dinov2": Entry(_DINOV2_REG, _S, 14, 518),
  "vit_base_patch14_reg4_dinov2": Entry(_DINOV2_REG, _B, 14, 518),
  "vit_large_patch14_reg4_dinov2": Entry(_DINOV2_REG, _L, 14, 518),
  "vit_giant_patch14_reg4_dinov2": Entry(gated(_DINOV2_REG), GIANT_GATED, 14, 518),
  "vit_base_patch16_siglip_224": Entry(_SIGLIP, _B, 16, 224),
  "vit_base_patch16_siglip_256": Entry(_SIGLIP, _B, 16, 256),
  "vit_base_patch16_siglip_384": Entry(_SIGLIP, _B, 16, 384),
  "vit_base_patch16_siglip_512": Entry(_SIGLIP, _B, 16, 512),
  "vit_large_patch16_siglip_256": Entry(_SIGLIP, _L, 16, 256),
  "vit_large_patch16_siglip_384": Entry(_SIGLIP, _L, 16, 384),
  "vit_so400m_patch14_siglip_224": Entry(_SIGLIP, _SO400M, 14, 224),
  "vit_so400m_patch14_siglip_384": Entry(_SIGLIP, _SO400M, 14, 384),
  "vit_base_patch32_clip_224": Entry(_CLIP, _B, 32, 224),
  "vit_base_patch32_clip_quickgelu_224": Entry(_CLIP_QUICK, _B, 32, 224),
  "vit_base_patch16_clip_224": Entry(_CLIP, _B, 16, 224),
  "vit_base_patch16_clip_quickgelu_224": Entry(_CLIP_QUICK, _B, 16, 224),
  "vit_large_patch14_clip_224": Entry(_CLIP_L, _L, 14, 224),
  "vit_large_patch14_clip_336": Entry(_CLIP_L, _L, 14, 336),
  "vit_large_patch14_clip_quickgelu_224": Entry(_CLIP_L_QUICK, _L, 14, 224),
  "vit_huge_patch14_clip_224": Entry(_CLIP_L, _H, 14, 224),
  "beit_base_patch16_224": Entry(_BEIT, _B, 16, 224),
  "beit_base_patch16_384": Entry(_BEIT_SHARP, _B, 16, 384),
  "beit_large_patch16_224": Entry(_BEIT, _L, 16, 224),
  "beit_large_patch16_384": Entry(_BEIT_SHARP, _L, 16, 384),
  "beitv2_base_patch16_224": Entry(_BEITV2, _B, 16, 224),
  "beitv2_large_patch16_224": Entry(_BEITV2, _L, 16, 224),
  "vit_tiny_patch16_384": Entry(_AUGREG_SHARP, _TI, 16, 384),
  "vit_small_patch16_384": Entry(_AUGREG_SHARP, _S, 16, 384),
  "vit_small_patch32_384": Entry(_AUGREG_SHARP, _S, 32, 384),
  "vit_base_patch16_384": Entry(_AUGREG_SHARP, _B, 16, 384),
  "vit_base_patch32_384": Entry(_AUGREG_SHARP, _B, 32, 384),
  "vit_large_patch16_384": Entry(_AUGREG_SHARP, _L, 16, 384),
  "vit_large_patch32_384": Entry(_AUGREG_SHARP, _L, 32, 384),
  "vit_large_patch32_224": Entry(_AUGREG, _L, 32, 224),
  "vit_base_patch16_224_miil": Entry(_MIIL, _B, 16, 224),
  "flexivit_small": Entry(_FLEXI, _S, 16, 240),
  "flexivit_base": Entry(_FLEXI, _B, 16, 240),
  "flexivit_large": Entry(_FLEXI, _L, 16, 240),
  "deit3_small_patch16_224": Entry(_DEIT3, _S, 16, 224),
  "deit3_medium_patch16_224": Entry(_DEIT3, MEDIUM, 16, 224),
  "deit3_base_patch16_224": Entry(_DEIT3, _B, 16, 224),
  "deit3_large_patch16_224": Entry(_DEIT3, _L, 16, 224),
  "deit3_huge_patch14_224": Entry(_DEIT3, _H, 14, 224),
  "deit3_small_patch16_384": Entry(_DEIT3_SHARP, _S, 16, 384),
  "deit3_base_patch16_384": Entry(_DEIT3_SHARP, _B, 16, 384),
  "deit3_large_patch16_384": Entry(_DEIT3_SHARP, _L, 16, 384),
  "vit_huge_patch16_gap_448.in1k_ijepa": Entry(but(_IJEPA, crop=1.0), _H, 16, 448),
  "vit_base_patch14_reg1_tipsv2": Entry(_TIPS, _B, 14, 448),
  "vit_large_patch14_reg1_tipsv2": Entry(_TIPS, _L, 14, 448),
  "vit_so400m_patch14_reg1_tipsv2": Entry(_TIPS, _SO400M, 14, 448),
  "vit_giant_patch14_reg1_tipsv2": Entry(gated(_TIPS), GIANT_GATED, 14, 448),
  "vit_intern300m_patch14_448": Entry(_INTERN, _L, 14, 448),
  "vit_base_patch16_radio_v3": Entry(_RADIO_SCALED, _B, 16, 512),
  "vit_large_patch16_radio_v3": Entry(_RADIO_SCALED, _L, 16, 512),
  "vit_huge_patch16_radio_v3": Entry(_RADIO, _H, 16, 512),
  "vit_giant_patch16_radio_v3": Entry(_RADIO, _G_RADIO, 16, 512),
  "vit_so400m_patch16_radio_v4": Entry(_RADIO_V4, _SO400M, 16, 512),
  "vit_huge_patch16_radio_v4": Entry(_RADIO_V4, _H, 16, 512),
  "vit_base_patch32_siglip_256": Entry(_SIGLIP_TANH, _B, 32, 256),
  "vit_large_patch16_siglip_512": Entry(_SIGLIP_TANH, _L, 16, 512),
  "vit_so400m_patch14_siglip_378": Entry(_SIGLIP, _SO400M, 14, 378),
  "vit_so400m_patch16_siglip_256": Entry(_SIGLIP_TANH, _SO400M, 16, 256),
  "vit_so400m_patch16_siglip_384": Entry(_SIGLIP_TANH, _SO400M, 16, 384),
  "vit_so400m_patch16_siglip_512": Entry(_SIGLIP_TANH, _SO400M, 16, 512),
  "vit_giantopt_patch16_siglip_256": Entry(_SIGLIP_TANH, _G_OPT, 16, 256),
  "vit_giantopt_patch16_siglip_384": Entry(_SIGLIP_TANH, _G_OPT, 16, 384),
  "vit_base_patch16_siglip_gap_224": Entry(_SIGLIP_GAP, _B, 16, 224),
  "vit_base_patch16_siglip_gap_256": Entry(_SIGLIP_GAP, _B, 16, 256),
  "vit_base_patch16_siglip_gap_384": Entry(_SIGLIP_GAP, _B, 16, 384),
  "vit_base_patch16_siglip_gap_512": Entry(_SIGLIP_GAP, _B, 16, 512),
  "vit_base_patch32_siglip_gap_256": Entry(_SIGLIP_GAP_TANH, _B, 32, 256),
  "vit_large_patch16_siglip_gap_256": Entry(_SIGLIP_GAP, _L, 16, 256),
  "vit_large_patch16_siglip_gap_384": Entry(_SIGLIP_GAP, _L, 16, 384),
  "vit_large_patch16_siglip_gap_512": Entry(_SIGLIP_GAP_TANH, _L, 16, 512),
  "vit_so400m_patch14_siglip_gap_224": Entry(_SIGLIP_GAP, _SO400M, 14, 224),
  "vit_so400m_patch14_siglip_gap_378": Entry(_SIGLIP_GAP_SHARP, _SO400M, 14, 378),
  "vit_so400m_patch14_siglip_gap_384": Entry(_SIGLIP_GAP_SHARP, _SO400M, 14, 384),
  "vit_so400m_patch14_siglip_gap_448": Entry(_SIGLIP_GAP_SHARP, _SO400M, 14, 448),
  "vit_so400m_patch14_siglip_gap_896": Entry(_SIGLIP_GAP_SHARP, _SO400M, 14, 896),
  "vit_so400m_patch16_siglip_gap_256": Entry(_SIGLIP_GAP_TANH, _SO400M, 16, 256),
  "vit_so400m_patch16_siglip_gap_384": Entry(_SIGLIP_GAP_TANH, _SO400M, 16, 384),
  "vit_so400m_patch16_siglip_gap_512": Entry(_SIGLIP_GAP_TANH, _SO400M, 16, 512),
  "vit_giantopt_patch16_siglip_gap_256": Entry(_SIGLIP_GAP_TANH, _G_OPT, 16, 256),
  "vit_giantopt_patch16_siglip_gap_384": Entry(_SIGLIP_GAP_TANH, _G_OPT, 16, 384),
  "vit_xsmall_patch16_clip_224": Entry(_CLIP, _XS, 16, 224),
  "vit_medium_patch16_clip_224": Entry(_CLIP, MEDIUM, 16, 224),
  "vit_medium_patch32_clip_224": Entry(_CLIP, MEDIUM, 32, 224),
  "vit_betwixt_patch32_clip_224": Entry(_CLIP, BETWIXT, 32, 224),
  "vit_base_patch32_clip_256": Entry(_CLIP_L, _B, 32, 256),
  "vit_base_patch32_clip_384": Entry(_CLIP_L, _B, 32, 384),
  "vit_base_patch32_clip_448": Entry(_CLIP_L, _B, 32, 448),
  "vit_base_patch16_clip_384": Entry(_CLIP_L_WHOLE, _B, 16, 384),
  "vit_base_patch16_plus_clip_240": Entry(_CLIP_L, Size(896, 12, 14, 3584), 16, 240),
  "vit_large_patch14_clip_quickgelu_336": Entry(_CLIP_L_QUICK, _L, 14, 336),
  "vit_huge_patch14_clip_336": Entry(_CLIP_L_WHOLE, _H, 14, 336),
  "vit_huge_patch14_clip_378": Entry(_CLIP_L, _H, 14, 378),
  "vit_huge_patch14_clip_quickgelu_224": Entry(_CLIP_L_QUICK, _H, 14, 224),
  "vit_huge_patch14_clip_quickgelu_378": Entry(_CLIP_L_QUICK, _H, 14, 378),
  "vit_giant_patch14_clip_224": Entry(_CLIP_L, _G, 14, 224),
  "vit_gigantic_patch14_clip_224": Entry(_CLIP_L, SIZES["G"], 14, 224),
  "vit_gigantic_patch14_clip_quickgelu_224": Entry(_CLIP_L_QUICK, SIZES["G"], 14, 224),
  "vit_gigantic_patch14_clip_378": Entry(_CLIP_L_WHOLE, SIZES["G"], 14, 378),
  "eva_large_patch14_196": Entry(_EVA_L, _L, 14, 196),
  "eva_large_patch14_336": Entry(_EVA_L_WHOLE, _L, 14, 336),
  "beit_large_patch16_512": Entry(_BEIT_SHARP, _L, 16, 512),
  "beit3_base_patch16_224": Entry(_BEIT3, _B, 16, 224),
  "beit3_large_patch16_224": Entry(_BEIT3, _L, 16, 224),
  "vit_wee_patch16_reg1_gap_256": Entry(_GAP_REG1, _WEE, 16, 256),
  "vit_little_patch16_reg1_gap_256": Entry(_GAP_REG1, _LITTLE, 16, 256),
  "vit_medium_patch16_reg1_gap_256": Entry(_GAP_REG1, MEDIUM, 16, 256),
  "vit_betwixt_patch16_reg1_gap_256": Entry(_GAP_REG1, BETWIXT, 16, 256),
  "vit_little_patch16_reg4_gap_256": Entry(_GAP_REG4, _LITTLE, 16, 256),
  "vit_medium_patch16_reg4_gap_256": Entry(_GAP_REG4, MEDIUM, 16, 256),
  "vit_mediumd_patch16_reg4_gap_256": Entry(_GAP_REG4, MEDIUM_D, 16, 256),
  "vit_betwixt_patch16_reg4_gap_256": Entry(_GAP_REG4, BETWIXT, 16, 256),
  "vit_mediumd_patch16_reg4_gap_384": Entry(_GAP_REG4_SHARP, MEDIUM_D, 16, 384),
  "vit_betwixt_patch16_reg4_gap_384": Entry(_GAP_REG4_SHARP, BETWIXT, 16, 384),
  "vit_medium_patch16_gap_240": Entry(_GAP_UNBIASED, MEDIUM, 16, 240),
  "vit_medium_patch16_gap_256": Entry(_GAP_UNBIASED, MEDIUM, 16, 256),
  "vit_medium_patch16_gap_384": Entry(but(_GAP_UNBIASED, squash=True), MEDIUM, 16, 384),
}
