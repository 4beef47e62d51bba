"""Writes tests/oracles/pretrained.npz: what timm, Hugging Face and OpenCLIP make of drawn weights.

Run from the repository's root in an environment with torch, timm, transformers, open_clip and
safetensors, which the tests do not need:

  python tests/oracles/pretrained.py

The weights are not stored: `weights` of encoders.py draws them from a tensor's name, as the file on
the hub has it, and its shape, here and in the tests.
"""

import functools
import importlib.metadata
import json
import pathlib
import runpy
import tempfile

import numpy as np
import open_clip
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import SwiGLUPacked, VisionTransformer
from torchvision import transforms

ROOT = pathlib.Path(__file__).parent
weights = runpy.run_path(str(ROOT / "encoders.py"))["weights"]
SIDE = 32


def images(side=SIDE):
  return torch.from_numpy(weights("image", (2, side, side, 3))).permute(0, 3, 1, 2)


def drawn(state):
  return {
    k: torch.from_numpy(weights(k, tuple(v.shape))) if v.is_floating_point() else v
    for k, v in state.items()
  }


def shapes(state):
  return json.dumps({k: tuple(v.shape) for k, v in state.items() if v.is_floating_point()})


def of_timm(out):
  small = {"img_size": SIDE, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}
  epsilon = functools.partial(timm.layers.LayerNorm, eps=1e-5)
  rotary = {
    "qkv_bias": False, "init_values": 1.0, "rope_type": "dinov3", "rope_temperature": 100,
    "rope_rotate_half": True, "use_rot_pos_emb": True, "use_abs_pos_emb": False,
    "num_reg_tokens": 4, "use_fc_norm": False, "norm_layer": epsilon, "dynamic_img_size": True,
  }  # fmt: skip
  gate = {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU}
  clip = {"pre_norm": True, "norm_layer": epsilon}
  cases = {
    "vit": (VisionTransformer, {}),
    "ijepa": (VisionTransformer, {"class_token": False, "global_pool": "avg", "fc_norm": False}),
    "dinov2": (VisionTransformer, {"init_values": 1.0}),
    "dinov2_reg": (
      VisionTransformer,
      {"init_values": 1.0, "reg_tokens": 4, "no_embed_class": True},
    ),
    "dinov2_giant": (VisionTransformer, {"init_values": 1.0, **gate}),
    "siglip": (VisionTransformer, {"class_token": False, "global_pool": "map"}),
    "clip": (VisionTransformer, clip),
    "clip_quick": (VisionTransformer, clip | {"act_layer": timm.layers.QuickGELU}),
    "deit3": (VisionTransformer, {"init_values": 1.0, "no_embed_class": True}),
    "miil": (VisionTransformer, {"qkv_bias": False}),
    "intern": (VisionTransformer, {"init_values": 1.0, "final_norm": False}),
    "siglip_2": (
      VisionTransformer,
      {"class_token": False, "global_pool": "map", "act_layer": "gelu_tanh"},
    ),
    "gap_reg": (
      VisionTransformer,
      {
        "class_token": False,
        "no_embed_class": True,
        "reg_tokens": 4,
        "init_values": 1.0,
        "global_pool": "avg",
      },
    ),
    "beit3": (
      VisionTransformer,
      {"scale_attn_norm": True, "scale_mlp_norm": True, "global_pool": "avg"}
      | {"norm_layer": epsilon},
    ),
    "dinov3": (Eva, rotary),
    "dinov3_gated": (Eva, rotary | {"swiglu_mlp": True, "swiglu_align_to": 8}),
    "beit": (Beit, {"init_values": 0.1, "use_abs_pos_emb": False, "use_rel_pos_bias": True}),
  }
  for name, (kind, options) in cases.items():
    model = kind(**small, **options, num_classes=0).eval()
    state = model.state_dict()
    out[f"timm/{name}/shapes"] = shapes(state)
    model.load_state_dict(drawn(state))
    with torch.no_grad():
      answers(out, f"timm/{name}", model, images())
      if name == "dinov3":
        answers(out, f"timm/{name}_wide", model, torch.cat([images(), images()], 3))


def answers(out, case, model, image):
  _, layers = model.forward_intermediates(image, output_fmt="NLC", return_prefix_tokens=True)
  if isinstance(layers[0], tuple):
    layers = [torch.cat([prefix, patches], 1) for patches, prefix in layers]
  out[f"{case}/layers"] = torch.stack(layers)
  out[f"{case}/pooled"] = model(image)


def of_hugging_face(out):
  t = transformers
  small = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": SIDE,
    "patch_size": 8, "intermediate_size": 64,
  }  # fmt: skip
  ratio = {k: v for k, v in small.items() if k != "intermediate_size"}
  gate = {"use_gated_mlp": True, "num_register_tokens": 4, "hidden_act": "silu"}
  beit = {"use_relative_position_bias": True, "layer_scale_init_value": 0.1}
  cases = {
    "vit": (t.ViTModel, t.ViTConfig(**small)),
    "vit_mae": (t.ViTMAEModel, t.ViTMAEConfig(**small, mask_ratio=0.0)),
    "ijepa": (t.IJepaModel, t.IJepaConfig(**small)),
    "beit": (t.BeitModel, t.BeitConfig(**small, **beit)),
    "dinov2": (t.Dinov2Model, t.Dinov2Config(**ratio)),
    "dinov2_giant": (t.Dinov2Model, t.Dinov2Config(**ratio, use_swiglu_ffn=True)),
    "dinov2_reg": (t.Dinov2WithRegistersModel, t.Dinov2WithRegistersConfig(**ratio)),
    "dinov3": (t.DINOv3ViTModel, t.DINOv3ViTConfig(**small, num_register_tokens=4)),
    "dinov3_gated": (t.DINOv3ViTModel, t.DINOv3ViTConfig(**small, **gate)),
    "clip": (t.CLIPVisionModelWithProjection, t.CLIPVisionConfig(**small, projection_dim=16)),
    "siglip": (t.SiglipVisionModel, t.SiglipVisionConfig(**small)),
  }
  stages = {"depths": [1, 2, 1], "hidden_sizes": [8, 16, 32]}
  # The same numbers of stages as depths; Hugging Face does not count them.
  stages |= {"num_stages": 3}
  cases |= {
    "convnext": (t.ConvNextModel, t.ConvNextConfig(**stages, layer_scale_init_value=1.0)),
    "convnextv2": (t.ConvNextV2Model, t.ConvNextV2Config(**stages)),
    "resnet": (
      t.ResNetModel,
      t.ResNetConfig(embedding_size=8, hidden_sizes=[32, 64], depths=[1, 2]),
    ),
    "resnet_basic": (
      t.ResNetModel,
      t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic"),
    ),
    "swin": (
      t.SwinModel,
      t.SwinConfig(
        image_size=SIDE, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=4
      ),
    ),
  }
  for name, (kind, config) in cases.items():
    with tempfile.TemporaryDirectory() as folder:
      # Tensors have other names on the hub than in memory, and the file's are those that are read.
      kind(config).save_pretrained(folder)
      file = f"{folder}/model.safetensors"
      state = load_file(file)
      save_file(drawn(state), file, {"format": "pt"})
      model = kind.from_pretrained(folder).eval()
      written = json.loads((pathlib.Path(folder) / "config.json").read_text())
    out[f"hf/{name}/config"], out[f"hf/{name}/shapes"] = json.dumps(written), shapes(state)
    with torch.no_grad():
      # ViTMAE orders patches by this noise, even if it hides none.
      noise = {"noise": torch.arange(16.0).expand(2, 16)} if name == "vit_mae" else {}
      answer = model(images(), output_hidden_states=True, **noise)
    layers = answer.hidden_states[1:] if answer.hidden_states else []
    if layers and layers[0].ndim == 3 and name != "swin":
      out[f"hf/{name}/layers"] = torch.stack(layers)
    if name in ("vit", "vit_mae"):
      pooled = answer.last_hidden_state[:, 0]
    elif name == "ijepa":
      pooled = answer.last_hidden_state.mean(1)
    else:
      pooled = answer.image_embeds if name == "clip" else answer.pooler_output
    out[f"hf/{name}/pooled"] = pooled.flatten(1)


def words():
  """Texts of nine words below 50; 49, the end, stands once in each."""
  found = np.random.default_rng(0).integers(1, 48, (2, 9))
  found[0, 5], found[1, 8] = 49, 49
  return torch.from_numpy(found)


def of_texts(out):
  t = transformers
  image = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": SIDE,
    "patch_size": 8, "intermediate_size": 64,
  }  # fmt: skip
  text = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "vocab_size": 50, "max_position_embeddings": 9, "bos_token_id": 48, "eos_token_id": 49,
  }  # fmt: skip
  clip = t.CLIPConfig(vision_config=image, text_config=text, projection_dim=16)
  siglip = t.SiglipConfig(vision_config=image, text_config=text | {"projection_size": 32})
  for name, kind, config in (
    ("clip", t.CLIPModel, clip),
    ("siglip", t.SiglipModel, siglip),
    ("bert", t.BertModel, t.BertConfig(**text)),
  ):
    with tempfile.TemporaryDirectory() as folder:
      kind(config).save_pretrained(folder)
      file = f"{folder}/model.safetensors"
      state = load_file(file)
      save_file(drawn(state), file, {"format": "pt"})
      model = kind.from_pretrained(folder).eval()
      written = json.loads((pathlib.Path(folder) / "config.json").read_text())
    out[f"text/{name}/config"], out[f"text/{name}/shapes"] = json.dumps(written), shapes(state)
    with torch.no_grad():
      if name == "bert":
        there = torch.arange(9)[None] < torch.tensor([[6], [9]])
        answer = model(words(), attention_mask=there.long())
        out["text/bert/tokens"] = answer.last_hidden_state
      else:
        answer = model(input_ids=words(), pixel_values=images())
        out[f"text/{name}/logits"] = answer.logits_per_image
  model = open_clip.CLIP(
    16,
    {"image_size": SIDE, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8},
    {"context_length": 9, "vocab_size": 50, "width": 24, "heads": 4, "layers": 2},
    quick_gelu=True,
  ).eval()
  state = model.state_dict()
  out["text/open_clip/shapes"] = shapes(state)
  model.load_state_dict(drawn(state), strict=False)
  with torch.no_grad():
    out["text/open_clip/logits"] = model.get_logits(images(), words())[0]


def of_torchvision(out):
  """Resize and crop of images of odd shapes."""
  modes = transforms.InterpolationMode
  # Name: size after the resize, crop, filter.
  cases = {
    "bicubic": ((28,), 24, modes.BICUBIC),
    "bilinear": ((24,), 24, modes.BILINEAR),
    "squash": ((24, 24), 24, modes.LANCZOS),
    "enlarge": ((71,), 63, modes.BICUBIC),
  }
  for name, (size, crop, mode) in cases.items():
    resize = transforms.Resize(size if size[1:] else size[0], mode)
    cut = transforms.Compose([resize, transforms.CenterCrop(crop)])
    for shape in ((37, 50), (61, 30)):
      image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
      answer = np.asarray(cut(Image.fromarray(image)))
      out[f"cut/{name}/{shape[0]}x{shape[1]}"] = torch.from_numpy(answer.copy())


def main() -> None:
  out = {}
  of_torchvision(out)
  of_texts(out)
  of_timm(out)
  of_hugging_face(out)
  packages = ("torch", "torchvision", "timm", "transformers", "open_clip_torch")
  out["versions"] = json.dumps({p: importlib.metadata.version(p) for p in packages})
  arrays = {k: v if isinstance(v, str) else v.numpy() for k, v in out.items()}
  np.savez_compressed(ROOT / "pretrained.npz", **arrays)


if __name__ == "__main__":
  main()
