"""Writes deit.npz: what timm's distilled DeiT makes of weights drawn by a rule.

pip install -r tests/oracles/requirements.txt && python tests/oracles/deit.py
"""

import pathlib

import numpy as np
import torch
from drawn import draw, images
from timm.models.deit import VisionTransformerDistilled


def main() -> None:
  model = VisionTransformerDistilled(
    img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, num_classes=0,
    dynamic_img_size=True,
  )  # fmt: skip
  out = {"shapes": draw(model)}
  with torch.no_grad():
    tokens, layers = model.forward_intermediates(
      images(32), output_fmt="NLC", return_prefix_tokens=True
    )
    out["layers"] = np.stack([torch.cat([front, patches], 1) for patches, front in layers])
    out["tokens"], out["pooled"] = tokens.numpy(), model(images(32)).numpy()
    out["wide"] = model(images(24, 48)).numpy()
  np.savez_compressed(pathlib.Path(__file__).with_suffix(".npz"), **out)


if __name__ == "__main__":
  main()
