"""Writes tests/oracles/glsim.npz: what the official GLSim makes of drawn weights.

Run from the repository's root in an environment with torch, timm and einops, with a checkout of
github.com/arkel23/GLSim (commit 1a260fc):

  python tests/oracles/glsim.py CHECKOUT

Written with torch 2.14.1, numpy 2.4.6, from a copy of that code's ViT and crops without dropout and
options that are off. The weights are not stored: `weights` of encoders.py draws them from a
tensor's name and shape, here and in the tests.
"""

import json
import sys

import numpy as np
from encoders import weights


def main() -> None:
  import torch
  from glsim.model_utils import ViTConfig, ViTGLSim

  # vit_t16's heads are 64 wide, as are the aggregator's whatever the model.
  size = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2}
  size |= {"representation_size": 128, "image_size": 32, "patch_size": 4, "num_hidden_layers": 1}
  method = {"classifier": "cls", "reducer": "cls", "dynamic_anchor": True, "dynamic_top": 3}
  method |= {"aggregator": True, "aggregator_norm": True, "load_fc_layer": False}
  model = ViTGLSim(ViTConfig("vit_t16", **size, **method)).eval()
  shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
  model.load_state_dict({k: torch.from_numpy(weights(k, s)) for k, s in shapes.items()})
  x = torch.from_numpy(weights("image", (4, 32, 32, 3))).permute(0, 3, 1, 2)
  with torch.no_grad():
    tokens, *_ = model.forward_encoder(model.patchify_tokenize(x))
    crops = model.get_crops(tokens, x)
    pooled = model.forward_aggregator(model.process_crops(tokens, crops))[:, 0]
  crops = crops.permute(0, 2, 3, 1)
  arrays = {"shapes": json.dumps(shapes), "crops": crops.numpy(), "pooled": pooled.numpy()}
  np.savez_compressed("tests/oracles/glsim.npz", **{f"glsim/{k}": x for k, x in arrays.items()})


if __name__ == "__main__":
  sys.path.insert(0, sys.argv[1])
  main()
