"""Writes tests/oracles/glmix.npz: what the official GLNet makes of drawn weights.

Run from the repository's root in an environment with torch, timm and fairscale, with a checkout of
github.com/rayleizhu/GLMix (commit f01679c), whose models/glnet.py is all that is read:

  python tests/oracles/glmix.py CHECKOUT

Written with torch 2.14.1, timm 1.0.31, numpy 2.4.6, from a copy of that file without its downloads,
checkpointing and drop path. The weights are not stored: `weights` of encoders.py draws them from a
tensor's name and shape, here and in the tests, where 8 is added to each slot_scale, for slots that
tell locations apart.
"""

import json
import sys

import numpy as np
from encoders import weights


def main() -> None:
  import torch
  from models.glnet import GLNet

  shape = {"embed_dim": [8, 16, 32, 64], "head_dim": 4, "num_slots": 9, "num_classes": 0}
  shape |= {"norm_layer": torch.nn.BatchNorm2d, "slot_init": "ada_avgpool"}
  cases = {
    "overlap": {
      "depth": [1, 1, 2, 1],
      "mlp_ratios": [3] * 4,
      "mixing_modes": ("glmix", "glmix", "glmix.mha_nchw", "mha_nchw"),
      "cpe_ks": 3,
      "downsample_style": "ovlp",
      "mlp_dw": True,
      "layerscale": 1e-4,
    },
    "patches": {"depth": [1, 1, 1, 1], "mlp_ratios": [4] * 4, "transition_layout": "norm.proj"},
  }
  out = {}
  for case, options in cases.items():
    model = GLNet(**shape, **options)
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    shapes = {k: tuple(v.shape) for k, v in state.items()}
    drawn = {k: weights(k, s) + np.float32(8 * k.endswith("slot_scale")) for k, s in shapes.items()}
    drawn = {k: torch.as_tensor(v) for k, v in drawn.items()}
    model.load_state_dict(drawn, strict=False)
    x = torch.from_numpy(weights("image", (2, 64, 32, 3))).permute(0, 3, 1, 2)
    maps = []
    for stage in model.stages:
      stage.register_forward_hook(lambda module, args, x: maps.append(x))
    with torch.no_grad():
      out[f"{case}/pooled"] = model.eval()(x).numpy()
    out[f"{case}/shapes"] = json.dumps(shapes)
    out |= {f"{case}/layers/{i}": x.permute(0, 2, 3, 1).numpy() for i, x in enumerate(maps)}
  np.savez_compressed("tests/oracles/glmix.npz", **out)


if __name__ == "__main__":
  sys.path.insert(0, sys.argv[1])
  main()
