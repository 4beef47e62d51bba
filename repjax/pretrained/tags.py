"""Weights of timm's that were trained on other images than most of their name."""

from typing import Any

from repjax.pretrained.preprocessing import CLIP, HALF

_CLIP, _HALF = ({"mean": mean, "std": std} for mean, std in (CLIP, HALF))

# Fields of `Preprocessing`, and names with tags.
_GROUPS: tuple[tuple[dict[str, Any], str], ...] = (
  (
    {"crop": 1.0, **_CLIP},
    """
    vit_base_patch16_224.bamboo
  """,
  ),
  (
    {"crop": 1.0},
    """
    vit_base_patch32_clip_224.datacompxl vit_base_patch32_clip_224.metaclip_2pt5b
    vit_base_patch32_clip_224.metaclip_400m vit_base_patch32_clip_quickgelu_224.metaclip_2pt5b
    vit_base_patch32_clip_quickgelu_224.metaclip_400m vit_base_patch16_clip_224.datacompxl
    vit_base_patch16_clip_224.dfn2b vit_base_patch16_clip_224.laion2b
    vit_base_patch16_clip_224.laion2b_ft_in1k vit_base_patch16_clip_224.laion400m_e32
    vit_base_patch16_clip_224.metaclip_2pt5b vit_base_patch16_clip_224.metaclip_400m
    vit_base_patch16_clip_quickgelu_224.metaclip_2pt5b
    vit_base_patch16_clip_quickgelu_224.metaclip_400m
    resnet50.bamboo convnext_tiny.dinov3_lvd1689m convnext_small.dinov3_lvd1689m
    convnext_base.dinov3_lvd1689m convnext_large.dinov3_lvd1689m
    deit3_small_patch16_224.fb_in22k_ft_in1k deit3_medium_patch16_224.fb_in22k_ft_in1k
    deit3_base_patch16_224.fb_in22k_ft_in1k deit3_large_patch16_224.fb_in22k_ft_in1k
    deit3_huge_patch14_224.fb_in22k_ft_in1k
  """,
  ),
  (
    {"crop": 0.9},
    """
    vit_so400m_patch14_siglip_gap_378.v2_webli
  """,
  ),
  (
    {"crop": 1.0, "squash": True},
    """
    vit_so400m_patch14_siglip_378.webli_ft_in1k vit_so400m_patch14_siglip_gap_378.webli_ft_in1k
  """,
  ),
  (
    {"crop": 0.95, "squash": True},
    """
    vit_base_patch32_clip_384.openai_ft_in12k_in1k
  """,
  ),
  (
    {"crop": 0.95},
    """
    vit_base_patch16_clip_384.openai_ft_in12k_in1k
    vit_base_patch16_clip_224.laion2b_ft_in12k_in1k
    vit_base_patch16_clip_224.openai_ft_in12k_in1k beitv2_large_patch16_224.in1k_ft_in1k
    beitv2_large_patch16_224.in1k_ft_in22k_in1k convnext_tiny.in12k
    convnext_tiny.in12k_ft_in1k convnext_small.in12k convnext_small.in12k_ft_in1k
  """,
  ),
  (
    _HALF,
    """
    vit_large_patch14_clip_224.laion2b vit_large_patch14_clip_224.laion2b_ft_in1k
    vit_large_patch14_clip_224.laion2b_ft_in12k
    vit_large_patch14_clip_224.laion2b_ft_in12k_in1k
  """,
  ),
  (
    {"squash": True, **_HALF},
    """
    vit_large_patch14_clip_336.laion2b_ft_in1k
    vit_large_patch14_clip_336.laion2b_ft_in12k_in1k
  """,
  ),
  (
    {"squash": True},
    """
    vit_large_patch14_clip_336.openai_ft_in12k_in1k vit_huge_patch14_clip_378.metaclip2_worldwide
  """,
  ),
  (
    {"size": 160},
    """
    resnet18.a3_in1k resnet34.a3_in1k resnet50.a3_in1k resnet101.a3_in1k resnet152.a3_in1k
  """,
  ),
  (
    {"crop": 0.875, "filter": "bilinear"},
    """
    resnet18.fb_ssl_yfcc100m_ft_in1k resnet18.fb_swsl_ig1b_ft_in1k
    resnet50.fb_ssl_yfcc100m_ft_in1k resnet50.fb_swsl_ig1b_ft_in1k
  """,
  ),
  (
    {"crop": 0.875},
    """
    resnet18.gluon_in1k resnet34.bt_in1k resnet34.gluon_in1k resnet50.am_in1k resnet50.bt_in1k
    resnet50.gluon_in1k resnet50.ra_in1k resnet50.ram_in1k resnet101.gluon_in1k
    resnet152.gluon_in1k
  """,
  ),
  (
    {"crop": 0.9, **_HALF},
    """
    resnet34.ra4_e3600_r224_in1k
  """,
  ),
  (
    {"size": 176, "crop": 0.9},
    """
    resnet50.a1h_in1k
  """,
  ),
  (
    {"size": 176, "crop": 0.875, "filter": "bilinear"},
    """
    resnet50.tv2_in1k resnet101.tv2_in1k resnet152.tv2_in1k
  """,
  ),
  (
    {"size": 256, "crop": 1.0},
    """
    convnext_tiny.eupe_lvd1689m convnext_small.eupe_lvd1689m convnext_base.eupe_lvd1689m
  """,
  ),
  (
    {"size": 384, "crop": 1.0, "squash": True},
    """
    convnext_tiny.fb_in22k_ft_in1k_384 convnext_tiny.in12k_ft_in1k_384
    convnext_small.fb_in22k_ft_in1k_384 convnext_small.in12k_ft_in1k_384
    convnext_base.fb_in22k_ft_in1k_384 convnext_large.fb_in22k_ft_in1k_384
    convnext_xlarge.fb_in22k_ft_in1k_384 convnextv2_nano.fcmae_ft_in22k_in1k_384
    convnextv2_tiny.fcmae_ft_in22k_in1k_384 convnextv2_base.fcmae_ft_in22k_in1k_384
    convnextv2_large.fcmae_ft_in22k_in1k_384 convnextv2_huge.fcmae_ft_in22k_in1k_384
  """,
  ),
  (
    {"size": 256, "crop": 1.0, **_CLIP},
    """
    convnext_base.clip_laion2b convnext_base.clip_laion2b_augreg
    convnext_base.clip_laion2b_augreg_ft_in1k convnext_base.clip_laion2b_augreg_ft_in12k
    convnext_base.clip_laion2b_augreg_ft_in12k_in1k convnext_base.clip_laiona
  """,
  ),
  (
    {"size": 384, "crop": 1.0, "squash": True, **_CLIP},
    """
    convnext_base.clip_laion2b_augreg_ft_in12k_in1k_384
  """,
  ),
  (
    {"size": 320, "crop": 1.0, **_CLIP},
    """
    convnext_base.clip_laiona_320 convnext_base.clip_laiona_augreg_320
  """,
  ),
  (
    {"size": 384, "crop": 1.0, **_CLIP},
    """
    convnext_base.clip_laiona_augreg_ft_in1k_384
  """,
  ),
  (
    {"size": 512, "crop": 1.0, "squash": True},
    """
    convnextv2_huge.fcmae_ft_in22k_in1k_512
  """,
  ),
)

#: What of `Preprocessing` differs, by timm's name with its tag.
TAGS = {name: how for how, names in _GROUPS for name in names.split()}
