"""Writes convnext.npz and swin.npz beside it: what timm's encoders make of drawn weights.

Run from the repository's root in an environment with torch and timm, which the tests do not need:

  python tests/oracles/convnext_swin.py

Written with torch 2.14.1, timm 1.0.31, numpy 2.4.6. The weights are not stored: `weights` of
encoders.py draws them from a tensor's name and shape, here and in the tests.
"""

import json

import numpy as np
from encoders import weights


def main() -> None:
  import timm
  import torch

  def answers(model, side):
    """Maps after each stage and the pooled feature, for drawn weights and images."""
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    model.load_state_dict({k: torch.from_numpy(weights(k, s)) for k, s in shapes.items()})
    image = torch.from_numpy(weights("image", (2, *side, 3))).permute(0, 3, 1, 2)
    with torch.no_grad():
      last, layers = model.eval().forward_intermediates(image)
      pooled = model.forward_head(model.forward_features(image), pre_logits=True)
    maps = {f"layers/{i}": x.permute(0, 2, 3, 1).numpy() for i, x in enumerate(layers)}
    return {"shapes": json.dumps(shapes), "last": last.numpy(), "pooled": pooled.numpy()} | maps

  def write(name, cases):
    arrays = {f"{case}/{key}": x for case, out in cases.items() for key, x in out.items()}
    np.savez_compressed(f"tests/oracles/{name}.npz", **arrays)

  shape = {"depths": (1, 2, 1, 1), "dims": (8, 16, 32, 64), "num_classes": 0}
  version_2 = {"use_grn": True, "ls_init_value": None}
  write(
    "convnext",
    {
      "version_1": answers(timm.models.ConvNeXt(**shape), (64, 32)),
      "version_2": answers(timm.models.ConvNeXt(**shape, **version_2), (64, 32)),
    },
  )

  # Maps of 8x8, 4x8 and so on down: windows shifted along both axes, along one, and cut down.
  shape = {"depths": (2, 2, 1), "embed_dim": 8, "num_heads": (2, 4, 8), "window_size": 4}
  square = timm.models.SwinTransformer(img_size=(32, 32), **shape, num_classes=0)
  oblong = timm.models.SwinTransformer(img_size=(16, 32), **shape, num_classes=0)
  write("swin", {"square": answers(square, (32, 32)), "oblong": answers(oblong, (16, 32))})


if __name__ == "__main__":
  main()
