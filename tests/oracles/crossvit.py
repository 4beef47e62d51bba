"""Writes crossvit.npz: what timm's CrossViT makes of weights drawn by a rule.

pip install -r tests/oracles/requirements.txt && python tests/oracles/crossvit.py
"""

import pathlib

import numpy as np
import timm
import torch
from drawn import draw, images


def main() -> None:
  out = {}
  for case, options in {
    "patch": {
      "patch_size": (4, 8),
      "img_size": 24,
      "img_scale": (1.0, 16 / 24),
      "depth": ((1, 2, 0),) * 2,
    },
    "conv": {"patch_size": (12, 16), "img_size": 48, "multi_conv": True, "depth": ((1, 1, 0),)},
  }.items():
    model = timm.models.crossvit.CrossVit(
      embed_dim=(16, 32), num_heads=(2, 4), mlp_ratio=(3, 3, 1), num_classes=0, **options
    )
    out[f"{case}/shapes"] = draw(model)
    blocks = []
    for block in model.blocks:
      block.register_forward_hook(lambda module, inputs, output: blocks.extend(output))
    with torch.no_grad():
      out[f"{case}/pooled"] = model(images(options["img_size"])).numpy()
      for i, layer in enumerate(blocks):
        out[f"{case}/layer_{i}"] = layer.numpy()
      out[f"{case}/tokens"] = model.norm[1](blocks[-1])[:, 1:].numpy()
  np.savez_compressed(pathlib.Path(__file__).with_suffix(".npz"), **out)


if __name__ == "__main__":
  main()
