"""Names of TNT's parameters in timm, which are those of its authors."""

from repjax.encoders import TNT
from repjax.encoders.positions import pair
from repjax.trees import CONVOLUTION, FIRST, Form, Rule, dense_rules, norm_rules


def tnt_rules(net: TNT) -> list[Rule]:
  """Rules of a TNT's parameters.

  Args:
    net: the encoder.

  Returns:
    Rules for `repjax.trees.convert`.
  """
  rows, columns = (-(-side // net.word_size) for side in pair(net.patch_size))
  # A map of words for each channel as a list of words.
  words = Form(lambda x: x[0].reshape(len(x[0]), -1).T, lambda x: x.T.reshape(1, -1, rows, columns))
  rules = [
    Rule("cls_token", ("params/class_token",), FIRST),
    Rule("patch_pos", ("params/positions",), FIRST),
    Rule("pixel_pos", ("params/word_positions",), words),
    Rule("pixel_embed.proj.weight", ("params/words/kernel",), CONVOLUTION),
    Rule("pixel_embed.proj.bias", ("params/words/bias",)),
    *_fold("", "params/fold"),
    *norm_rules("norm", "params/norm"),
  ]
  for i in range(net.depth):
    theirs, ours = f"blocks.{i}.", f"params/block_{i}"
    rules += _block(f"{theirs}%s_in", theirs + "norm_mlp_in", f"{ours}/inner")
    rules += _fold(theirs, f"{ours}/fold", bias=False)
    rules += _block(f"{theirs}%s_out", theirs + "norm_mlp", f"{ours}/outer")
  return rules


def _fold(theirs, ours, bias=True):
  return [
    *norm_rules(f"{theirs}norm1_proj", f"{ours}/norm_1"),
    *dense_rules(f"{theirs}proj", f"{ours}/words", bias=bias),
    *norm_rules(f"{theirs}norm2_proj", f"{ours}/norm_2"),
  ]


def _block(theirs, second, ours):
  """A transformer's block; ``%s`` is the kind of part, and the outer feed-forward is just mlp."""
  attention, place = theirs % "attn", f"{ours}/attention"
  mlp = (theirs % "mlp").removesuffix("_out")
  return [
    *norm_rules(theirs % "norm", f"{ours}/norm_1"),
    *dense_rules(f"{attention}.qk", f"{place}/query", f"{place}/key", bias=False),
    *dense_rules(f"{attention}.v", f"{place}/value", bias=False),
    *dense_rules(f"{attention}.proj", f"{place}/out"),
    *norm_rules(second, f"{ours}/norm_2"),
    *dense_rules(f"{mlp}.fc1", f"{ours}/mlp/up"),
    *dense_rules(f"{mlp}.fc2", f"{ours}/mlp/down"),
  ]
