"""Writes cswin.npz: a second statement of CSWin, in float64, with the official code's names.

pip install -r tests/oracles/requirements.txt && python tests/oracles/cswin.py

The official code (https://github.com/microsoft/CSWin-Transformer, models/cswin.py) is in no
package. Here attention goes over the whole map under a mask of stripes, and the convolution of the
values over the whole map too, one stripe at a time with all else at zero.
"""

import pathlib

import numpy as np
import torch
from drawn import draw, images
from torch import nn


class Block(nn.Module):
  """``split`` is the width of the stripes; 0 for attention over the whole map."""

  def __init__(self, dim, heads, split):
    super().__init__()
    self.heads, self.split = heads, split
    parts = 2 if split else 1
    self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
    self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
    self.attns = nn.ModuleList()
    for _ in range(parts):
      branch = nn.Module()
      branch.get_v = nn.Conv2d(dim // parts, dim // parts, 3, 1, 1, groups=dim // parts)
      self.attns.append(branch)
    self.mlp = nn.Module()
    self.mlp.fc1, self.mlp.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

  def forward(self, x):
    batch, height, width, dim = x.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    # The stripe that each token is in: upright first, then level.
    stripes = [columns // self.split, rows // self.split] if self.split else [0 * rows]
    outputs = []
    share, heads = dim // len(stripes), self.heads // len(stripes)
    qkv = self.qkv(self.norm1(x)).chunk(3, -1)
    for part, stripe in enumerate(stripes):
      q, k, v = (y[..., part * share : (part + 1) * share] for y in qkv)
      split = lambda y: y.reshape(batch, height * width, heads, -1).transpose(1, 2)
      same = stripe.flatten()[:, None] == stripe.flatten()[None]
      y = nn.functional.scaled_dot_product_attention(split(q), split(k), split(v), same)
      y = y.transpose(1, 2).reshape(v.shape)
      for index in stripe.unique():
        inside = (stripe == index)[None, None].to(v)
        place = self.attns[part].get_v(v.permute(0, 3, 1, 2) * inside) * inside
        y = y + place.permute(0, 2, 3, 1)
      outputs.append(y)
    x = x + self.proj(torch.cat(outputs, -1))
    return x + self.mlp.fc2(nn.functional.gelu(self.mlp.fc1(self.norm2(x))))


class CSWin(nn.Module):
  def __init__(self, dim, depths, splits, heads):
    super().__init__()
    # The Identity stands where the official code rearranges axes.
    self.stage1_conv_embed = nn.Sequential(
      nn.Conv2d(3, dim, 7, 4, 2), nn.Identity(), nn.LayerNorm(dim)
    )
    self.stages = len(depths)
    for i, (depth, split, count) in enumerate(zip(depths, splits, heads, strict=True), 1):
      width = dim * 2 ** (i - 1)
      blocks = [Block(width, count, split) for _ in range(depth)]
      setattr(self, f"stage{i}", nn.ModuleList(blocks))
      if i < self.stages:
        merge = nn.Module()
        merge.conv, merge.norm = nn.Conv2d(width, 2 * width, 3, 2, 1), nn.LayerNorm(2 * width)
        setattr(self, f"merge{i}", merge)
    self.norm = nn.LayerNorm(width)

  def forward(self, image):
    conv, _, norm = self.stage1_conv_embed
    x, layers = norm(conv(image).permute(0, 2, 3, 1)), []
    for i in range(1, self.stages + 1):
      for block in getattr(self, f"stage{i}"):
        x = block(x)
      layers.append(x)
      if i < self.stages:
        merge = getattr(self, f"merge{i}")
        x = merge.norm(merge.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    return layers, self.norm(x)


def main() -> None:
  model = CSWin(8, (1, 2, 1), (1, 2, 0), (2, 4, 4))
  out = {"shapes": draw(model)}
  with torch.no_grad():
    layers, last = model.double()(images(32, 48).double())
  out["pooled"] = last.mean((1, 2)).float().numpy()
  for i, layer in enumerate(layers):
    out[f"layer_{i}"] = layer.float().numpy()
  np.savez_compressed(pathlib.Path(__file__).with_suffix(".npz"), **out)


if __name__ == "__main__":
  main()
