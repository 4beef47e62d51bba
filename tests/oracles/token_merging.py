"""Writes token_merging.npz: token reduction as its official codes have it, in plain PyTorch.

pip install -r tests/oracles/requirements.txt && python tests/oracles/token_merging.py

ToMe (https://github.com/facebookresearch/ToMe), PiToMe (https://github.com/hchautran/PiToMe), EViT
(https://github.com/youweiliang/evit) and CenterCLIP (https://github.com/mzhaoshuai/CenterCLIP) are
in no package; DivPrune's (https://github.com/vbdi/divprune) is part of another's. Their operations
are stated here again on random tokens without ties, and inside of a tiny ViT of timm's.
"""

import pathlib

import numpy as np
import timm
import torch
from drawn import draw, images
from torch.nn.functional import elu, normalize

TOKENS, DIM = 17, 6


def tome_merge(metric, r, class_token):
  unit = normalize(metric, dim=-1)
  scores = unit[:, ::2] @ unit[:, 1::2].mT
  if class_token:
    scores[:, 0] = -torch.inf
  best, into = scores.max(-1)
  order = best.argsort(-1, descending=True)
  return alternate_merge(order[:, r:].sort(1)[0], order[:, :r], into.gather(1, order[:, :r]))


def alternate_merge(stay, source, into):
  def merge(x):
    wide = lambda index: index[..., None].expand(-1, -1, x.shape[-1])
    ours, others = x[:, ::2], x[:, 1::2]
    others = others.scatter_reduce(1, wide(into), ours.gather(1, wide(source)), "sum")
    return torch.cat([ours.gather(1, wide(stay)), others], 1)

  return merge


def pitome_merge(metric, r, margin, everything):
  """Patches behind one class token."""
  unit = normalize(metric[:, 1:], dim=-1)
  cosine = unit @ unit.mT
  order = elu(cosine - margin).mean(-1).argsort(-1, descending=True)
  mergeable = order if everything else order[:, : 2 * r]
  source, other = mergeable[:, ::2], mergeable[:, 1::2]
  row = torch.arange(len(metric))[:, None, None]
  scores = cosine[row, source[:, :, None], other[:, None]]
  best, into = scores.max(-1)
  first = best.argsort(-1, descending=True)[:, :r] if everything else None

  def merge(x):
    wide = lambda index: index[..., None].expand(-1, -1, x.shape[-1])
    front, x = x[:, :1], x[:, 1:]
    ours, others = x.gather(1, wide(source)), x.gather(1, wide(other))
    if everything:
      best_first = scores.max(-1)[0].argsort(-1, descending=True)
      rest = ours.gather(1, wide(best_first[:, r:]))
      moved, place = ours.gather(1, wide(first)), into.gather(1, first)
    else:
      rest, moved, place = x.gather(1, wide(order[:, 2 * r :])), ours, into
    others = others.scatter_reduce(1, wide(place), moved, "sum")
    return torch.cat([front, rest, others], 1)

  return merge


def sized(merge, x, size):
  total = merge(size)
  return merge(x * size) / total, total


def evit_fuse(x, attention, left):
  kept = attention.topk(left, 1)[1]
  rest = torch.ones_like(attention, dtype=bool).scatter(1, kept, False)
  fused = (x * (attention * rest)[..., None]).sum(1, keepdim=True)
  return torch.cat([x.gather(1, kept[..., None].expand(-1, -1, x.shape[-1])), fused], 1)


def divprune(x, left):
  unit = x / x.norm(dim=1, keepdim=True)
  distance = 1 - unit @ unit.T
  chosen = [distance.topk(2, 0, largest=False).values[1].argmax()]
  while len(chosen) < left:
    chosen.append(distance[torch.stack(chosen)].min(0).values.argmax())
  return torch.stack(chosen)


def medoids(x, left):
  distance = torch.cdist(x, x)
  distance = distance - distance.max() - 1
  distance[range(len(x)), range(len(x))] -= 1
  centres = [x.norm(dim=-1).argmax()]
  while len(centres) < left:
    centres.append(distance[torch.stack(centres)].min(0).values.argmax())
  centres = torch.stack(centres)
  for _ in range(60):
    cluster = distance[centres].argmin(0)
    own = cluster[None] == torch.arange(left)[:, None]
    centres = (distance[None] * own[:, None] * own[..., None]).sum(-1).argmin(-1)
  centres = centres.sort()[0]
  return centres, distance[centres].argmin(0)


def patched(model, image, merge_of, r, *, proportional=True):
  """timm's blocks with merging by keys between attention and MLP, and log sizes in the scores."""
  x = model.norm_pre(model._pos_embed(model.patch_embed(image)))
  size = torch.ones(*x.shape[:2], 1, dtype=x.dtype)
  for i, block in enumerate(model.blocks):
    batch, tokens, dim = x.shape
    heads = block.attn.num_heads
    qkv = block.attn.qkv(block.norm1(x)).reshape(batch, tokens, 3, heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    scores = q @ k.mT * block.attn.scale
    if proportional:
      scores = scores + size.log()[:, None, None, :, 0]
    y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, dim)
    x = x + block.attn.proj(y)
    x, size = sized(merge_of(i, k.mean(1), r), x, size)
    x = x + block.mlp(block.norm2(x))
  return size, model.norm(x)


def main() -> None:
  draws = np.random.default_rng(0)
  keys = torch.from_numpy(draws.normal(size=(3, TOKENS, DIM)) + 0.7)
  x = torch.from_numpy(draws.normal(size=(3, TOKENS, DIM)))
  size = torch.from_numpy(draws.integers(1, 5, (3, TOKENS, 1)).astype(float))
  attention = torch.from_numpy(draws.random((3, TOKENS)))
  out = {"keys": keys, "x": x, "sizes": size[..., 0], "attention": attention}
  for r in (1, 5, 8):
    merged = sized(tome_merge(keys, r, True), x, size)
    out[f"tome_{r}/x"], out[f"tome_{r}/sizes"] = merged
    for name, everything in (("pitome", False), ("pitome_all", True)):
      merged = sized(pitome_merge(keys, r, 0.3, everything), x, size)
      out[f"{name}_{r}/x"], out[f"{name}_{r}/sizes"] = merged
  out["evit"] = evit_fuse(x, attention, 6)
  out["divprune"] = torch.stack([divprune(row, 7) for row in x])
  centres, clusters = zip(*(medoids(row, 5) for row in x), strict=True)
  out["medoids"], out["clusters"] = torch.stack(centres), torch.stack(clusters)

  shape = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4}
  model = timm.models.VisionTransformer(**shape, num_classes=0)
  out["vit/shapes"] = draw(model)
  merges = {
    "tome": lambda i, keys, r: tome_merge(keys, r, True),
    "pitome": lambda i, keys, r: pitome_merge(keys, r, 0.9 - 0.8 * i / 3, False),
  }
  with torch.no_grad():
    for name, merge_of in merges.items():
      for proportional in (True, False):
        case = f"vit_{name}" + ("" if proportional else "_plain")
        size, last = patched(
          model.double(), images(16).double(), merge_of, 3, proportional=proportional
        )
        out[f"{case}/last"], out[f"{case}/sizes"] = last, size[..., 0]
  np.savez_compressed(
    pathlib.Path(__file__).with_suffix(".npz"), **{k: np.asarray(v) for k, v in out.items()}
  )


if __name__ == "__main__":
  main()
