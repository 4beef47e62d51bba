"""Writes tests/oracles/mobilenet.npz: what timm's MobileNets make of weights drawn by a rule.

Run from the repository's root in an environment with torch and timm, which the tests do not need:

  python -m tests.oracles.mobilenet

Written with torch 2.14.1, timm 1.0.31. Weights are those of tests/oracles/encoders.py.
"""

import json

import numpy as np

from tests.oracles.encoders import weights

CASES = {"mobilenet_v1": "mobilenetv1_100", "mobilenet_v2": "mobilenetv2_050"}


def main() -> None:
  import timm
  import torch

  out = {}
  for case, name in CASES.items():
    model = timm.create_model(name, num_classes=0)
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    out[f"{case}/shapes"] = json.dumps({k: tuple(v.shape) for k, v in state.items()})
    drawn = {k: torch.from_numpy(weights(k, tuple(v.shape))) for k, v in state.items()}
    model.load_state_dict(drawn, strict=False)
    model.eval()
    x = torch.from_numpy(weights("image", (1, 32, 32, 3))).permute(0, 3, 1, 2)
    with torch.no_grad():
      out[f"{case}/pooled"] = model(x).numpy()
      x = model.bn1(model.conv_stem(x))
      for i, block in enumerate(model.blocks):
        x = block(x)
        out[f"{case}/layer_{i}"] = x.permute(0, 2, 3, 1).numpy()
  np.savez_compressed("tests/oracles/mobilenet.npz", **out)


if __name__ == "__main__":
  main()
