"""Writes tests/oracles/encoders.npz: what timm's encoders make of weights drawn by a rule.

Run from the repository's root in an environment with torch and timm, which the tests do not need:

  python tests/oracles/encoders.py

Written with torch 2.13.0, timm 1.0.31, numpy 2.4.6. The weights are not stored: `weights` draws
them from a tensor's name and shape, here and in the tests.
"""

import json
import zlib

import numpy as np


def weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Draws one tensor of a model, seeded by its name, at a scale that suits its role."""
  draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
  if name.endswith(("embed", "token", "latent", "image")):
    draw *= 0.5
  elif name.endswith("running_var"):
    draw = 1 + 0.1 * np.abs(draw)
  elif len(shape) > 1:
    draw *= np.prod(shape[1:]) ** -0.5
  else:
    draw = name.endswith("weight") + 0.1 * draw
  return np.asarray(draw, np.float32)


def main() -> None:
  import timm
  import torch
  from timm.layers import resample_abs_pos_embed

  out = {}

  def load(case, model):
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    out[f"{case}/shapes"] = json.dumps({k: tuple(v.shape) for k, v in state.items()})
    drawn = {k: torch.from_numpy(weights(k, tuple(v.shape))) for k, v in state.items()}
    model.load_state_dict(drawn, strict=False)
    return model.eval()

  def images(side):
    return torch.from_numpy(weights("image", (2, side, side, 3))).permute(0, 3, 1, 2)

  shape = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}
  cases = {
    "vit_cls": {},
    "vit_mean": {"class_token": False, "global_pool": "avg", "fc_norm": False},
    "vit_registers": {"reg_tokens": 2},
    "vit_attention": {"class_token": False, "global_pool": "map"},
  }
  for case, options in cases.items():
    model = timm.models.VisionTransformer(**shape, **options, num_classes=0)
    x = images(16)
    with torch.no_grad():
      load(case, model)
      tokens, layers = model.forward_intermediates(x, output_fmt="NLC", return_prefix_tokens=True)
      out[f"{case}/tokens"], out[f"{case}/pooled"] = tokens, model(x)
      if model.num_prefix_tokens:
        layers = [torch.cat([prefix, patches], 1) for patches, prefix in layers]
      out[f"{case}/layers"] = torch.stack(layers)

  table = torch.from_numpy(weights("pos_embed", (1, 16, 8)))
  for grid in ((6, 3), (2, 2), (7, 4)):
    resized = resample_abs_pos_embed(table, grid, (4, 4), num_prefix_tokens=0)
    out[f"interpolate/{grid[0]}x{grid[1]}"] = resized[0]

  for case, name, layers in (
    ("resnet_imagenet", "BasicBlock", [1, 1, 1, 1]),
    ("resnet_cifar", "BasicBlock", [2, 1, 1, 1]),
    ("resnet_bottleneck", "Bottleneck", [1, 2, 1, 1]),
  ):
    block = getattr(timm.models.resnet, name)
    model = timm.models.ResNet(block, layers, num_classes=0)
    x = images(64)
    if case == "resnet_cifar":
      model.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
      model.maxpool = torch.nn.Identity()
      x = images(16)
    load(case, model)
    with torch.no_grad():
      tokens = model.forward_features(x)
      out[f"{case}/tokens"] = tokens.flatten(2).mT
      out[f"{case}/pooled"] = model(x)
      out[f"{case}/pooled_train"] = model.train()(x)

  arrays = {k: v if isinstance(v, str) else v.detach().numpy() for k, v in out.items()}
  np.savez_compressed("tests/oracles/encoders.npz", **arrays)


if __name__ == "__main__":
  main()
