"""The rival of `train_step.py`: timm's encoders under PyTorch, with our weights and our losses.

One class a method: its ``forward(image, label, mask)`` is the loss of views that are augmented.
`load` fills it with our parameters, `torch_side` trains it.
"""

import functools
import re

import numpy as np
import timm
import torch
import torch_augment
from torch.nn import functional as F


def make_encoder(case):
  """timm's net of the shape of ours, without a head.

  Args:
    case: the row that is measured, a `Case` of `our_side.py`.

  Returns:
    The module; ``forward_features`` gives tokens or a map.
  """
  if case.encoder.startswith("resnet"):
    net = timm.create_model(case.encoder, num_classes=0, global_pool="")
    if case.image_size < 64:
      net.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
      net.maxpool = torch.nn.Identity()
    return net
  size = case.net
  return timm.models.VisionTransformer(
    case.image_size,
    size.patch_size,
    embed_dim=size.dim,
    depth=size.depth,
    num_heads=size.heads,
    mlp_ratio=size.mlp_dim / size.dim,
    class_token=case.pool == "cls",
    global_pool="token" if case.pool == "cls" else "avg",
    fc_norm=False,
    num_classes=0,
  )


def pooled(net, image, pool):
  """``[batch, dim]``: the mean of a map or of the tokens, or the class token."""
  x = net.forward_features(image)
  if x.ndim == 4:
    return x.mean((2, 3))
  return x[:, 0] if pool == "cls" else x.mean(1)


class Supervised(torch.nn.Module):
  """Cross entropy over a linear layer."""

  views, masked = 1, False

  def __init__(self, case):
    super().__init__()
    self.encoder, self.pool = make_encoder(case), case.pool
    self.head = torch.nn.Linear(case.dim, case.classes)

  def forward(self, image, label, mask):
    logits = self.head(pooled(self.encoder, image, self.pool))
    return F.cross_entropy(logits.float(), label)


class SimCLR(torch.nn.Module):
  """NT-Xent of two views' projections."""

  views, masked = 2, False

  def __init__(self, case):
    super().__init__()
    self.encoder, self.pool, self.temperature = make_encoder(case), case.pool, case.temperature
    hidden, out = case.projector
    self.projector = torch.nn.Sequential(
      torch.nn.Linear(case.dim, hidden, bias=False),
      torch.nn.BatchNorm1d(hidden),
      torch.nn.ReLU(),
      torch.nn.Linear(hidden, out),
    )

  def forward(self, image, label, mask):
    z = self.projector(pooled(self.encoder, image, self.pool))
    with torch.autocast(z.device.type, enabled=False):
      z = F.normalize(z.float())
      logits = (z @ z.T / self.temperature).fill_diagonal_(-torch.inf)
      half = len(z) // 2
      partner = torch.arange(len(z), device=z.device).roll(half)
      return F.cross_entropy(logits, partner)


class SimMIM(torch.nn.Module):
  """Absolute error of hidden patches' pixels, predicted by a linear layer."""

  views, masked = 1, True

  def __init__(self, case):
    super().__init__()
    self.encoder, self.patch = make_encoder(case), case.net.patch_size
    self.mask_token = torch.nn.Parameter(torch.zeros(case.dim))
    self.head = torch.nn.Linear(case.dim, self.patch**2 * 3)

  def forward(self, image, label, mask):
    net, (batch, channels, height, width), p = self.encoder, image.shape, self.patch
    x = net.patch_embed(image)
    x = torch.where(mask[..., None], self.mask_token.to(x.dtype), x)
    x = net.norm(net.blocks(net._pos_embed(x)))[:, net.num_prefix_tokens :]
    target = image.reshape(batch, channels, height // p, p, width // p, p)
    target = target.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, p * p * channels)
    error = (self.head(x).float() - target).abs().mean(-1)
    return ((error * mask).sum(1) / mask.sum(1)).mean()


TWINS = {"supervised": Supervised, "simclr": SimCLR, "simmim": SimMIM}


def load(twin, params):
  """Copies our parameters into a twin.

  Args:
    twin: one of `TWINS`.
    params: those of our objective, as NumPy arrays.
  """
  named = dict(twin.named_parameters())
  ours = _leaves({"": {k: v for k, v in params.items() if k not in ("encoder", "projector")}})
  ours |= _leaves({f"encoder.{k}": v for k, v in _encoder(params["encoder"]).items()})
  if "projector" in params:
    places = {"dense_0": 0, "norm_0": 1, "dense_1": 3}
    ours |= _leaves({f"projector.{places[k]}": v for k, v in params["projector"].items()})
  ours = {{"encoder.mask_token": "mask_token"}.get(k, k): v for k, v in ours.items()}
  if ours.keys() != named.keys():
    raise ValueError(f"the two nets differ in parameters: {sorted(ours.keys() ^ named.keys())}")
  with torch.no_grad():
    for name, value in named.items():
      value.copy_(torch.from_numpy(np.array(ours[name])).reshape(value.shape))


def _encoder(tree):
  """Our layers by timm's names."""
  if "stem_conv" in tree:
    layers = {"conv1": tree["stem_conv"], "bn1": tree["stem_norm"]}
    for name, block in tree.items():
      match = re.fullmatch(r"stage_(\d)_block_(\d+)", name)
      for part, layer in block.items() if match else ():
        kind, place = part.split("_")
        if kind == "shortcut":
          place = f"downsample.{int(place == 'norm')}"
        else:
          place = f"{ {'conv': 'conv', 'norm': 'bn'}[kind] }{int(place) + 1}"
        layers[f"layer{int(match[1]) + 1}.{match[2]}.{place}"] = layer
    return layers
  names = {"class_token": "cls_token", "positions": "pos_embed", "patch": "patch_embed.proj"}
  layers = {names.get(k, k): v for k, v in tree.items() if not k.startswith("block_")}
  kernel = tree["patch"]["kernel"]  # its rows are pixels of a patch: row, column, channel
  side = round((len(kernel) // 3) ** 0.5)
  layers["patch_embed.proj"] = tree["patch"] | {"kernel": kernel.reshape(side, side, 3, -1)}
  for name, block in tree.items():
    if not name.startswith("block_"):
      continue
    attention, prefix = block["attention"], f"blocks.{name[6:]}"
    three = [attention[part] for part in ("query", "key", "value")]
    layers |= {
      f"{prefix}.norm1": block["norm_1"],
      f"{prefix}.norm2": block["norm_2"],
      f"{prefix}.attn.qkv": {k: np.concatenate([x[k] for x in three], -1) for k in three[0]},
      f"{prefix}.attn.proj": attention["out"],
      f"{prefix}.mlp.fc1": block["mlp"]["up"],
      f"{prefix}.mlp.fc2": block["mlp"]["down"],
    }
  return layers


def _leaves(layers):
  """PyTorch's parameters, by name, of layers or bare arrays of ours by name."""
  found = {}
  for name, layer in layers.items():
    if not isinstance(layer, dict):
      found[name] = layer
    elif "kernel" in layer or "scale" in layer or "bias" in layer:
      weight = layer.get("scale", layer.get("kernel"))
      found[f"{name}.weight"] = weight.transpose(*range(weight.ndim)[::-1])
      if weight.ndim == 4:
        found[f"{name}.weight"] = weight.transpose(3, 2, 0, 1)
      if "bias" in layer:
        found[f"{name}.bias"] = layer["bias"]
    else:
      found |= _leaves({f"{name}.{k}".lstrip("."): v for k, v in layer.items()})
  return found


def torch_side(case, batch, params, rival):
  """Builds the rival's step.

  Args:
    case: the row that is measured, a `Case` of `our_side.py`.
    batch: ``{"image": uint8 [b, h, w, 3], "label": int32 [b]}``, NumPy.
    params: the weights to begin with, those of our objective, NumPy.
    rival: ``compile``, ``max-autotune`` (a mode of `torch.compile`), or ``eager``.

  Returns:
    ``run(augmented, steps, masks)``, which returns the losses once all work is done; the number of
    parameters; the number of those that decay.
  """
  torch.set_float32_matmul_precision("high")
  torch.manual_seed(0)
  device = {"gpu": "cuda"}.get(case.device, case.device)
  twin = TWINS[case.method](case)
  load(twin, params)
  channels_last = case.encoder.startswith("resnet")
  twin = twin.to(device, memory_format=torch.channels_last if channels_last else None).train()
  kernels = [v for k, v in twin.named_parameters() if k.endswith("weight") and v.ndim > 1]
  others = [v for k, v in twin.named_parameters() if not (k.endswith("weight") and v.ndim > 1)]
  groups = [{"params": kernels}, {"params": others, "weight_decay": 0.0}]
  optimizer = torch.optim.AdamW(
    groups, case.learning_rate, weight_decay=case.weight_decay, fused=True
  )
  image = torch.from_numpy(batch["image"]).to(device)
  label = torch.from_numpy(batch["label"]).long().to(device)
  dtype = getattr(torch, case.dtype)

  def views(image, augmented):
    image = torch_augment.to_float(image)
    draw = lambda x: x
    if augmented and case.method == "simclr":
      draw = functools.partial(
        torch_augment.simclr_view,
        area=(case.min_area, 1.0), strength=case.strength, blurred=True,
      )  # fmt: skip
    elif augmented:
      draw = functools.partial(torch_augment.random_crop_flip, area=(case.min_area, 1.0))
    image = torch.cat([draw(image) for _ in range(twin.views)])
    return torch_augment.normalize(image, case.mean, case.std)

  def draw_mask():
    patches = (case.image_size // case.net.patch_size) ** 2
    hidden = -(-6 * patches // 10)
    scores = torch.rand(len(image), patches, device=device)
    mask = torch.zeros(len(image), patches, dtype=torch.bool, device=device)
    return mask.scatter(1, scores.topk(hidden).indices, True)

  mode = {"compile": "default", "eager": None}.get(rival, rival)
  compiled = functools.partial(torch.compile, mode=mode, disable=rival == "eager")
  views, forward = compiled(torch.no_grad(views)), compiled(twin)

  def step(augmented, mask):
    if twin.masked and mask is None:
      mask = draw_mask()
    x = views(image, augmented)
    with torch.autocast(device, dtype, enabled=dtype != torch.float32):
      loss = forward(x, label, mask)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach().clone()  # a graph that is replayed writes to the same place

  def run(augmented, steps, masks=None):
    given = [None] * steps if masks is None else [torch.from_numpy(m).to(device) for m in masks]
    losses = [step(augmented, mask) for mask in given]
    if device == "cuda":
      torch.cuda.synchronize()  # a loss is there before its step is done
    return [float(loss) for loss in losses]

  return run, sum(v.numel() for v in twin.parameters()), sum(v.numel() for v in kernels)


def matmul_peak(device, dtype, sizes, repeats, clock):
  """The best rate of a square product under PyTorch, in FLOP/s.

  Args:
    device: ``cpu`` or ``gpu``.
    dtype: its name.
    sizes: sides to try.
    repeats: products timed at a time.
    clock: ``() -> seconds``.
  """
  device = {"gpu": "cuda"}.get(device, device)
  best = 0.0
  for size in sizes:
    x = torch.randn(size, size, device=device, dtype=getattr(torch, dtype))
    out = torch.empty_like(x)
    for _ in range(6):
      start = clock()
      for _ in range(repeats):
        torch.mm(x, x, out=out)
      float(out[0, 0])  # waits
      best = max(best, 2 * size**3 * repeats / (clock() - start))
  return best
