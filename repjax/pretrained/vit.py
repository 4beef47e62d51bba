"""Names of a vision transformer's parameters in other libraries."""

from typing import NamedTuple

from repjax.encoders import ViT
from repjax.encoders.positions import pair
from repjax.trees import (
  FIRST,
  ROW,
  SAME,
  Form,
  Rule,
  dense_rules,
  joined_rules,
  norm_rules,
  patches,
)

PROJECTIONS = ("query", "key", "value")


class PoolNames(NamedTuple):
  """What the parts of attention pooling are called; timm's if not said otherwise."""

  probe: str = "attn_pool.latent"
  qkv: tuple[str, ...] = ("attn_pool.q", "attn_pool.kv")
  out: str = "attn_pool.proj"
  norm: str = "attn_pool.norm"
  mlp: tuple[str, str] = ("attn_pool.mlp.fc1", "attn_pool.mlp.fc2")


class Names(NamedTuple):
  """What the parts of a vision transformer are called; names in a block are below ``block``.

  Attributes:
    block: with ``{}`` for its number.
    patch: the convolution of patches.
    class_token, class_form: the token, ``[1, 1, dim]`` with the form `FIRST`.
    distillation_token: the second, ``[1, 1, dim]``.
    registers: ``[1, registers, dim]``.
    positions, position_form: learned ones, ``[1, tokens, dim]`` with the form `FIRST`.
    embedding_norm: before the first block.
    norm: after the last.
    norm_1, norm_2: in front of either branch.
    qkv: queries, keys and values in one layer, or in three.
    unbiased: which of the three have no bias there. Ours have one, which starts at 0; keys' does
      nothing, whatever it is.
    biases: names of the biases where they stand apart from ``qkv``.
    relative: table of relative positions.
    frequencies: of mixed rotary positions, ``[2, depth, heads, head_dim / 2]``.
    neighbours: whether rotary positions turn pairs of neighbouring features; halves of a head are
      paired if not, as here.
    attention_norm: before the layer after attention.
    out: after attention.
    scale_1, scale_2: of either branch.
    mlp: the feed-forward layer: up and down; gate, up and down; or gate with up as one layer, and
      down.
    mlp_norm: before the last of these.
    projection, projection_form: the matrix of a last map of the pooled vector.
    pool: of attention pooling.
  """

  block: str = "blocks.{}."
  patch: str = "patch_embed.proj"
  class_token: str = "cls_token"
  class_form: Form = FIRST
  distillation_token: str = "dist_token"
  registers: str = "reg_token"
  positions: str = "pos_embed"
  position_form: Form = FIRST
  embedding_norm: str = "norm_pre"
  norm: str = "norm"
  norm_1: str = "norm1"
  norm_2: str = "norm2"
  qkv: tuple[str, ...] = ("attn.qkv",)
  unbiased: tuple[str, ...] = ()
  biases: tuple[str, ...] = ()
  relative: str = "attn.relative_position_bias_table"
  frequencies: str = "rope.freqs"
  neighbours: bool = False
  attention_norm: str = "attn.norm"
  out: str = "attn.proj"
  scale_1: str = "ls1.gamma"
  scale_2: str = "ls2.gamma"
  mlp: tuple[str, ...] = ("mlp.fc1", "mlp.fc2")
  mlp_norm: str = "mlp.norm"
  projection: str = ""
  projection_form: Form = SAME
  pool: PoolNames = PoolNames()


#: timm's VisionTransformer; also DeiT, MAE and DINO as their authors published them.
TIMM = Names()
#: timm's Beit, and BEiT as its authors published it.
TIMM_BEIT = TIMM._replace(
  norm="fc_norm",
  biases=("attn.q_bias", "attn.v_bias"),
  unbiased=("key",),
  scale_1="gamma_1",
  scale_2="gamma_2",
)
#: timm's DINOv3, an Eva.
TIMM_DINOV3 = TIMM._replace(unbiased=PROJECTIONS, scale_1="gamma_1", scale_2="gamma_2")
#: timm's ViTs with rotary positions counted in patches, an Eva.
TIMM_ROPE = TIMM._replace(neighbours=True, scale_1="gamma_1", scale_2="gamma_2")
#: timm's EVA-02 in its two smaller sizes, with one layer of queries, keys and values.
TIMM_EVA02 = TIMM_BEIT._replace(neighbours=True)
#: The same in its larger sizes, with three.
TIMM_EVA02_APART = TIMM_EVA02._replace(
  qkv=tuple(f"attn.{x}_proj" for x in "qkv"),
  biases=(),
  mlp=("mlp.fc1_g", "mlp.fc1_x", "mlp.fc2"),
)
#: Hugging Face's ViT; also its ViTMAE, DeiT and I-JEPA.
HF = Names(
  block="encoder.layer.{}.",
  patch="embeddings.patch_embeddings.projection",
  class_token="embeddings.cls_token",
  registers="embeddings.register_tokens",
  positions="embeddings.position_embeddings",
  norm="layernorm",
  norm_1="layernorm_before",
  norm_2="layernorm_after",
  qkv=tuple(f"attention.attention.{x}" for x in ("query", "key", "value")),
  out="attention.output.dense",
  mlp=("intermediate.dense", "output.dense"),
)
HF_DINOV2 = HF._replace(
  norm_1="norm1",
  norm_2="norm2",
  scale_1="layer_scale1.lambda1",
  scale_2="layer_scale2.lambda1",
  mlp=("mlp.fc1", "mlp.fc2"),
)
HF_DINOV3 = HF_DINOV2._replace(
  block="layer.{}.",
  patch="embeddings.patch_embeddings",
  norm="norm",
  qkv=tuple(f"attention.{x}_proj" for x in "qkv"),
  unbiased=("key",),
  out="attention.o_proj",
  mlp=("mlp.up_proj", "mlp.down_proj"),
)
HF_BEIT = HF._replace(
  unbiased=("key",),
  relative="attention.attention.relative_position_bias.relative_position_bias_table",
  scale_1="lambda_1",
  scale_2="lambda_2",
  norm="pooler.layernorm",
)
#: Hugging Face's CLIP, the image tower.
HF_CLIP = Names(
  block="encoder.layers.{}.",
  patch="embeddings.patch_embedding",
  class_token="embeddings.class_embedding",
  class_form=ROW,
  positions="embeddings.position_embedding.weight",
  position_form=SAME,
  embedding_norm="pre_layrnorm",
  norm="post_layernorm",
  norm_1="layer_norm1",
  norm_2="layer_norm2",
  qkv=tuple(f"self_attn.{x}_proj" for x in "qkv"),
  out="self_attn.out_proj",
)
#: Hugging Face's SigLIP, the image tower.
HF_SIGLIP = HF_CLIP._replace(
  pool=PoolNames(
    probe="head.probe",
    qkv=("head.attention.in_proj_",),
    out="head.attention.out_proj",
    norm="head.layernorm",
    mlp=("head.mlp.fc1", "head.mlp.fc2"),
  )
)
#: OpenAI's CLIP and OpenCLIP, the image tower.
OPENAI_CLIP = Names(
  block="transformer.resblocks.{}.",
  patch="conv1",
  class_token="class_embedding",
  class_form=ROW,
  positions="positional_embedding",
  position_form=SAME,
  embedding_norm="ln_pre",
  norm="ln_post",
  norm_1="ln_1",
  norm_2="ln_2",
  qkv=("attn.in_proj_",),
  out="attn.out_proj",
  mlp=("mlp.c_fc", "mlp.c_proj"),
  projection="proj",
)


def vit_rules(vit: ViT, names: Names) -> list[Rule]:
  """Rules of a vision transformer's parameters.

  Args:
    vit: the encoder, not scanned.
    names: what its parts are called.

  Returns:
    Rules for `repjax.trees.convert`; paths begin with ``params``.
  """
  class_token = vit.pool == "cls" if vit.class_token is None else vit.class_token
  rules = [Rule(f"{names.patch}.weight", ("params/patch/kernel",), patches(pair(vit.patch_size)))]
  if vit.patch_bias:
    rules.append(Rule(f"{names.patch}.bias", ("params/patch/bias",)))
  if class_token:
    rules.append(Rule(names.class_token, ("params/class_token",), names.class_form))
  if vit.distillation_token:
    rules.append(Rule(names.distillation_token, ("params/distillation_token",), FIRST))
  if vit.registers:
    rules.append(Rule(names.registers, ("params/registers",), FIRST))
  if vit.positions == "learned":
    rules.append(Rule(names.positions, ("params/positions",), names.position_form))
  if vit.rotary == "mixed":
    rules.append(Rule(names.frequencies, ("params/frequencies",)))
  if vit.embedding_norm:
    rules += norm_rules(names.embedding_norm, "params/embedding_norm")
  for i in range(vit.depth):
    rules += _block(vit, names, names.block.format(i), f"params/block_{i}")
  if vit.final_norm:
    rules += norm_rules(names.norm, "params/norm")
  if vit.pool == "attention":
    rules += _pool(names.pool)
  if vit.projection is not None:
    rules.append(Rule(names.projection, ("params/projection/kernel",), names.projection_form))
  return rules


def _block(vit: ViT, names: Names, theirs: str, ours: str) -> list[Rule]:
  rules = norm_rules(theirs + names.norm_1, f"{ours}/norm_1")
  rules += norm_rules(theirs + names.norm_2, f"{ours}/norm_2")
  qkv = [theirs + name for name in names.qkv]
  parts = [f"{ours}/attention/{x}" for x in PROJECTIONS]
  if names.unbiased or names.biases:
    rules += joined_rules(qkv, parts, bias=False)
    biased = [x for x in PROJECTIONS if x not in names.unbiased]
    apart = names.biases or [f"{names.qkv[PROJECTIONS.index(x)]}.bias" for x in biased]
    for name, x in zip(apart, biased, strict=True):
      rules.append(Rule(theirs + name, (f"{ours}/attention/{x}/bias",)))
    rules += [Rule(None, (f"{ours}/attention/{x}/bias",)) for x in names.unbiased]
  else:
    rules += joined_rules(qkv, parts)
  if names.neighbours:
    rules = [_in_halves(rule, parts[:2], vit.heads) for rule in rules]
  if vit.attention_norm:
    rules += norm_rules(theirs + names.attention_norm, f"{ours}/attention/norm")
  if vit.positions == "relative":
    rules.append(Rule(theirs + names.relative, (f"{ours}/attention/relative",)))
  rules += dense_rules(theirs + names.out, f"{ours}/attention/out")
  rules += _mlp([theirs + name for name in names.mlp], f"{ours}/mlp", vit.gated)
  if vit.mlp_norm:
    rules += norm_rules(theirs + names.mlp_norm, f"{ours}/mlp/norm")
  if vit.layer_scale is not None:
    rules.append(Rule(theirs + names.scale_1, (f"{ours}/scale_1",)))
    rules.append(Rule(theirs + names.scale_2, (f"{ours}/scale_2",)))
  return rules


def _in_halves(rule: Rule, layers: list[str], heads: int) -> Rule:
  """Queries' and keys' features in another order, which their products do not see."""
  turned = lambda path: path.rpartition("/")[0] in layers
  forms = zip(rule.ours, rule.forms(), strict=True)
  forms = tuple(halves(form, heads) if turned(path) else form for path, form in forms)
  return rule if forms == rule.forms() else rule._replace(form=forms)


def halves(form: Form, heads: int) -> Form:
  """The form after which pairs of a head's neighbouring features are a half apart.

  Args:
    form: of a tensor whose first axis is features by head.
    heads: their number.

  Returns:
    The form; features 0, 1, 2, 3 of a head of four are its 0, 2, 1, 3.
  """

  def swapped(x, *inner):
    return x.reshape(heads, *inner, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)

  read = lambda x: form.read(swapped(x, -1, 2))
  return Form(read, lambda x: swapped(form.write(x), 2, -1))


def _mlp(theirs: list[str], ours: str, gated: bool = False) -> list[Rule]:
  *inner, last = theirs
  parts = [f"{ours}/gate", f"{ours}/up"] if gated else [f"{ours}/up"]
  return joined_rules(inner, parts) + dense_rules(last, f"{ours}/down")


def _pool(names: PoolNames) -> list[Rule]:
  ours = "params/pool"
  rules = [Rule(names.probe, (f"{ours}/probe",), FIRST)]
  rules += joined_rules(names.qkv, [f"{ours}/attention/{x}" for x in PROJECTIONS])
  rules += dense_rules(names.out, f"{ours}/attention/out")
  rules += norm_rules(names.norm, f"{ours}/norm")
  return rules + _mlp(list(names.mlp), f"{ours}/mlp")
