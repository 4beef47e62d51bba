"""Names of CrossViT's parameters in timm, which are those of its authors."""

from repjax.encoders import CrossViT
from repjax.encoders.positions import pair
from repjax.trees import CONVOLUTION, FIRST, Rule, dense_rules, norm_rules, patches


def crossvit_rules(net: CrossViT) -> list[Rule]:
  """Rules of a CrossViT's parameters.

  Args:
    net: the encoder.

  Returns:
    Rules for `repjax.trees.convert`.
  """
  rules = []
  for i, patch in enumerate(net.patch_size):
    rules.append(Rule(f"cls_token_{i}", (f"params/class_token_{i}",), FIRST))
    rules.append(Rule(f"pos_embed_{i}", (f"params/positions_{i}",), FIRST))
    layers = {f"patch_embed.{i}.proj": (f"params/patch_{i}", patches(pair(patch)))}
    if net.stem == "conv":
      # An activation stands between one convolution and the next.
      layers = {
        f"patch_embed.{i}.proj.{2 * j}": (f"params/stem_{i}/conv_{j}", CONVOLUTION)
        for j in range(3)
      }
    for theirs, (ours, form) in layers.items():
      rules.append(Rule(f"{theirs}.weight", (f"{ours}/kernel",), form))
      rules.append(Rule(f"{theirs}.bias", (f"{ours}/bias",)))
    rules += norm_rules(f"norm.{i}", f"params/norm_{i}")
    for k in range(net.fusions):
      theirs, ours = f"blocks.{k}", f"params/block_{k}"
      for j in range(net.depth[i]):
        rules += _block(f"{theirs}.blocks.{i}.{j}", f"{ours}/branch_{i}_block_{j}")
      rules += _cross(theirs, i, f"{ours}/cross_{i}")
  return rules


def _block(theirs, ours):
  parts = [f"{ours}/attention/{x}" for x in ("query", "key", "value")]
  return [
    *norm_rules(f"{theirs}.norm1", f"{ours}/norm_1"),
    *dense_rules(f"{theirs}.attn.qkv", *parts),
    *dense_rules(f"{theirs}.attn.proj", f"{ours}/attention/out"),
    *norm_rules(f"{theirs}.norm2", f"{ours}/norm_2"),
    *dense_rules(f"{theirs}.mlp.fc1", f"{ours}/mlp/up"),
    *dense_rules(f"{theirs}.mlp.fc2", f"{ours}/mlp/down"),
  ]


def _cross(theirs, i, ours):
  rules = norm_rules(f"{theirs}.fusion.{i}.norm1", f"{ours}/norm")
  for part, layer in (("wq", "query"), ("wk", "key"), ("wv", "value"), ("proj", "out")):
    rules += dense_rules(f"{theirs}.fusion.{i}.attn.{part}", f"{ours}/attention/{layer}")
  # Norm, activation and dense layer, to the other branch's width and back.
  for part, layer in (("projs", "project"), ("revert_projs", "back")):
    rules += norm_rules(f"{theirs}.{part}.{i}.0", f"{ours}/{layer}_norm")
    rules += dense_rules(f"{theirs}.{part}.{i}.2", f"{ours}/{layer}")
  return rules
