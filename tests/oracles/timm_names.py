"""Writes timm_names.npz: sizes of timm's models, and the preprocessing of all of their weights.

Run from the repository's root in the environment of requirements.txt, with the keys of
`repjax.pretrained.TIMM_VITS` and `repjax.pretrained.TIMM_OTHERS`:

  python tests/oracles/timm_names.py NAME ...
"""

import importlib.metadata
import json
import pathlib
import sys

import numpy as np
import timm
import torch


def shape_of(model) -> list[int]:
  """Width, depth, heads, hidden width, patch and image of a transformer."""
  block = model.blocks[0]
  up = getattr(block.mlp, "fc1_x", None) or block.mlp.fc1
  hidden = block.mlp.fc2.in_features
  assert up.out_features in (hidden, 2 * hidden)
  embedding = model.patch_embed
  return [
    model.embed_dim,
    len(model.blocks),
    block.attn.num_heads,
    hidden,
    embedding.patch_size[0],
    embedding.img_size[0],
  ]


def main() -> None:
  parameters, shapes, preprocessing = {}, {}, {}
  for name in sys.argv[1:]:
    with torch.device("meta"):
      model = timm.create_model(name, num_classes=0)
    # Of the head that comes behind the pooled features, nothing is left.
    parameters[name] = sum(p.numel() for p in model.parameters())
    if name.startswith(("vit_", "deit", "beit", "eva", "flexivit")):
      shapes[name] = shape_of(model)
    plain = name.partition(".")[0]
    for tagged in timm.list_pretrained(f"{plain}.*"):
      config = timm.get_pretrained_cfg(tagged)
      preprocessing[tagged] = {
        "size": config.input_size[-1],
        "crop": config.crop_pct,
        "mean": config.mean,
        "std": config.std,
        "filter": config.interpolation,
        "squash": config.crop_mode == "squash",
      }
  found = {"parameters": parameters, "shapes": shapes, "preprocessing": preprocessing}
  found["versions"] = {p: importlib.metadata.version(p) for p in ("torch", "timm")}
  arrays = {k: json.dumps(v) for k, v in found.items()}
  np.savez_compressed(pathlib.Path(__file__).with_suffix(".npz"), **arrays)


if __name__ == "__main__":
  main()
