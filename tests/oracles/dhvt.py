"""Writes dhvt.npz: a second statement of DHVT, in float64, with the official code's names.

pip install -r tests/oracles/requirements.txt && python tests/oracles/dhvt.py

The official code (https://github.com/ArieSeirack/DHVT, vision_transformer.py) is in no package.
Here head tokens are made and attention is paid one head at a time, on maps with channels first.
"""

import itertools
import pathlib

import numpy as np
import torch
from drawn import draw, images
from torch import nn
from torch.nn.functional import gelu


class Embedding(nn.Module):
  def __init__(self, dim, patch):
    super().__init__()
    widths = [3, *(dim // 2**i for i in reversed(range(patch.bit_length() - 1)))]
    layers = []
    for i, (inside, outside) in enumerate(itertools.pairwise(widths)):
      convolution = nn.Conv2d(inside, outside, 3, 2, 1, bias=False)
      layers += [nn.Sequential(convolution, nn.BatchNorm2d(outside))]
      if i < len(widths) - 2 or len(widths) == 2:
        layers += [nn.GELU()]
    self.proj = nn.Sequential(*layers)
    self.pre_affine, self.post_affine = nn.Module(), nn.Module()
    for affine, width in ((self.pre_affine, 3), (self.post_affine, dim)):
      affine.alpha = nn.Parameter(torch.ones(1, width, 1, 1))
      affine.beta = nn.Parameter(torch.zeros(1, width, 1, 1))

  def forward(self, x):
    x = self.proj(x * self.pre_affine.alpha + self.pre_affine.beta)
    return x * self.post_affine.alpha + self.post_affine.beta


class Attention(nn.Module):
  def __init__(self, dim, heads):
    super().__init__()
    self.heads = heads
    self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
    self.ht_proj, self.ht_norm = nn.Linear(dim // heads, dim), nn.LayerNorm(dim // heads)
    self.pos_embed = nn.Parameter(torch.zeros(1, heads, dim))

  def forward(self, x):
    count = x.shape[1]
    tokens = []
    for i, own in enumerate(x.chunk(self.heads, -1)):
      parts = self.ht_proj(own.mean(1)).chunk(self.heads, -1)
      tokens.append(torch.cat([gelu(self.ht_norm(p)) for p in parts], -1) + self.pos_embed[:, i])
    x = torch.cat([x, torch.stack(tokens, 1)], 1)
    q, k, v = (y.chunk(self.heads, -1) for y in self.qkv(x).chunk(3, -1))
    scores = [a @ b.mT * a.shape[-1] ** -0.5 for a, b in zip(q, k, strict=True)]
    y = self.proj(torch.cat([s.softmax(-1) @ c for s, c in zip(scores, v, strict=True)], -1))
    first = y[:, 0] + y[:, count:].mean(1)
    return torch.cat([first[:, None], y[:, 1:count]], 1)


class Feed(nn.Module):
  def __init__(self, dim, hidden):
    super().__init__()
    self.conv1, self.conv3 = nn.Conv2d(dim, hidden, 1), nn.Conv2d(hidden, dim, 1)
    self.conv2 = nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden)
    self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(width) for width in (hidden, hidden, dim))
    self.compress, self.excitation = nn.Linear(dim, dim // 4), nn.Linear(dim // 4, dim)

  def forward(self, x, grid):
    x = x.mT
    y = gelu(self.bn1(self.conv1(x[..., 1:].unflatten(-1, grid))))
    y = self.bn3(self.conv3(y + gelu(self.bn2(self.conv2(y)))))
    first = x[..., 0] * self.excitation(gelu(self.compress(y.mean((2, 3)))))
    return torch.cat([first[..., None], y.flatten(2)], -1).mT


class DHVT(nn.Module):
  def __init__(self, patch, dim, depth, heads):
    super().__init__()
    self.patch_embed = Embedding(dim, patch)
    self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
    self.blocks = nn.ModuleList()
    for _ in range(depth):
      block = nn.Module()
      block.norm1, block.norm2 = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
      block.attn, block.mlp = Attention(dim, heads), Feed(dim, 4 * dim)
      self.blocks.append(block)
    self.norm = nn.LayerNorm(dim, 1e-6)

  def forward(self, image):
    x = self.patch_embed(image)
    grid, layers = x.shape[2:], []
    x = torch.cat([self.cls_token.expand(len(x), -1, -1), x.flatten(2).mT], 1)
    for block in self.blocks:
      x = x + block.attn(block.norm1(x))
      x = x + block.mlp(block.norm2(x), grid)
      layers.append(x)
    return layers, self.norm(x)


def main() -> None:
  out = {}
  for case, (patch, depth) in {"patch_4": (4, 2), "patch_2": (2, 1)}.items():
    model = DHVT(patch, 16, depth, 4)
    out[f"{case}/shapes"] = draw(model)
    with torch.no_grad():
      layers, last = model.double()(images(2 * patch, 3 * patch).double())
      out[f"{case}/last"] = last.float().numpy()
      for i, layer in enumerate(layers):
        out[f"{case}/layer_{i}"] = layer.float().numpy()
      _, trained = model.train()(images(2 * patch, 3 * patch).double())
      out[f"{case}/last_train"] = trained.float().numpy()
  np.savez_compressed(pathlib.Path(__file__).with_suffix(".npz"), **out)


if __name__ == "__main__":
  main()
