"""Writes tnt.npz: what timm's TNT makes of weights drawn by a rule.

pip install -r tests/oracles/requirements.txt && python tests/oracles/tnt.py
"""

import pathlib

import numpy as np
import timm
import torch
from drawn import draw, images


def main() -> None:
  model = timm.models.tnt.TNT(
    img_size=16, patch_size=8, embed_dim=32, inner_dim=12, depth=2, num_heads_inner=2,
    num_heads_outer=4, mlp_ratio=4, num_classes=0,
  )  # fmt: skip
  out = {"shapes": draw(model)}
  with torch.no_grad():
    tokens, layers = model.forward_intermediates(
      images(16), output_fmt="NLC", return_prefix_tokens=True
    )
    out["pooled"], out["tokens"] = tokens[:, 0].numpy(), tokens[:, 1:].numpy()
    for i, (patches, prefix) in enumerate(layers):
      out[f"layer_{i}"] = torch.cat([prefix, patches], 1).numpy()
  np.savez_compressed(pathlib.Path(__file__).with_suffix(".npz"), **out)


if __name__ == "__main__":
  main()
