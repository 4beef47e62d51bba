"""Names of MobileNet's parameters and running statistics in timm."""

from repjax.encoders import MobileNet
from repjax.trees import CONVOLUTION, Rule, norm_rules

# timm's convolution and norm by ours; a block that does not widen has no first of three.
_PLAIN = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
_WIDENING = {
  "expand": ("conv_pw", "bn1"),
  "depthwise": ("conv_dw", "bn2"),
  "project": ("conv_pwl", "bn3"),
}


def mobilenet_rules(net: MobileNet) -> list[Rule]:
  """Rules of a MobileNet's parameters and running statistics.

  Args:
    net: the encoder, without attention.

  Returns:
    Rules for `repjax.trees.convert`.
  """
  layers = {"stem": ("conv_stem", "bn1")}
  index = 0
  for i, row in enumerate(net.rows):
    for j in range(row.repeats):
      for ours, theirs in (_WIDENING if row.expand > 1 else _PLAIN).items():
        layers[f"block_{index}_{ours}"] = tuple(f"blocks.{i}.{j}.{x}" for x in theirs)
      index += 1
  if net.last:
    layers["last"] = ("conv_head", "bn2")
  rules = []
  for ours, (conv, norm) in layers.items():
    rules += [
      Rule(f"{conv}.weight", (f"params/{ours}/kernel",), CONVOLUTION),
      *norm_rules(norm, f"params/{ours}_norm"),
      Rule(f"{norm}.running_mean", (f"batch_stats/{ours}_norm/mean",)),
      Rule(f"{norm}.running_var", (f"batch_stats/{ours}_norm/var",)),
    ]
  return rules
