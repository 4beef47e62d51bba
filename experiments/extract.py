"""Features of a folder of images, by an encoder that was trained elsewhere.

  python -m experiments.extract --encoder=timm/vit_base_patch14_dinov2 --weights=FILE \
    --data=folder:PATH --out=features.npz

writes ``train_pooled``, ``train_label``, ``test_pooled``, ``test_label`` and ``classes``, in the
order of the files' names. --features=pooled,mean_6,class_6,tokens chooses: what stands for the
image, the mean of the patches or the class token after the block of that number (from 0), all
patches after the last norm. --image_size=224 encodes images of another size than the model's own.
A run that was stopped goes on with the same command; --mesh=data:-1 takes all devices.
"""

import functools
import json
import math
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

from experiments import outcome
from experiments.frozen import Frozen, is_pretrained, load_frozen
from repjax import data
from repjax.encoders import Features
from repjax.train import hosts, launch
from repjax.train.launch import Settings, run_app

flags.DEFINE_string("out", "features.npz", "File for the features.")
flags.DEFINE_list("features", ["pooled"], "pooled, tokens, mean_LAYER, class_LAYER; several.")
flags.DEFINE_integer("part", 4096, "Images between two moments to resume from.", lower_bound=1)


# Flags that the features depend on.
_WHAT = (
  "encoder", "weights", "weights_key", "data", "features", "part", "image_size", "dtype", "seed",
  "test_fraction", "skip_unreadable",
)  # fmt: skip


def main(settings: Settings) -> None:
  """Encodes both splits, part by part, and joins the parts."""
  out = Path(settings.out)
  if out.suffix != ".npz":
    raise ValueError(f"--out={out} is no .npz file; name it so")
  if not is_pretrained(settings):
    raise ValueError(f"--encoder={settings.encoder} was not trained elsewhere; say timm/NAME")
  launch.use_compile_cache(settings)
  frozen = load_frozen(settings)
  encode = frozen.pretrained.encode
  image = jax.ShapeDtypeStruct((1, *frozen.dataset.train.image_shape), jnp.uint8)
  features = jax.eval_shape(encode, frozen.variables, image)
  pick = functools.partial(_pick, [_place(name, features) for name in settings.features])
  seen = jax.eval_shape(pick, features)
  shapes = {name: x.shape[1:] for name, x in seen.items()}
  encode = _flat(encode, pick, list(shapes))
  parts = out.with_name(out.name + ".parts")
  _same_run(parts, settings, frozen)
  size, step = settings.eval_batch_size, settings.part
  settings.check_all_read()
  splits = {"train": frozen.dataset.train, "test": frozen.dataset.test}
  plan = [
    (name, first, min(first + step, len(split)))
    for name, split in splits.items()
    for first in range(0, len(split), step)
  ]
  done = hosts.by_lead(lambda: [job for job in plan if _part(parts, *job).exists()])
  bar = tqdm(
    total=sum(map(len, splits.values())), initial=sum(last - first for _, first, last in done),
    desc="encode", unit="img", disable=not (settings.progress and hosts.is_lead()),
  )  # fmt: skip
  with bar:
    for name, first, last in plan:
      if (name, first, last) not in done:
        span = data.Subset(splits[name], np.arange(first, last))
        found = _encode(frozen, encode, shapes, span, size, bar)
        if hosts.is_lead():
          _write(_part(parts, name, first, last), found)
  if hosts.is_lead():
    joined = {"classes": np.array(frozen.dataset.classes)}
    for name in splits:
      spans = [np.load(_part(parts, *job)) for job in plan if job[0] == name]
      joined |= {f"{name}_{k}": np.concatenate([span[k] for span in spans]) for k in spans[0]}
    _write(out, joined)
    shutil.rmtree(parts)
    shapes = ", ".join(f"{k} {list(v.shape)}" for k, v in joined.items())
    print(f"\n{out}: {shapes}")


def _place(name: str, features: Features) -> tuple[str, str, int | None]:
  """A feature's name, its kind and its layer."""
  kind, _, layer = name.partition("_")
  depth = len(features.layers)
  plain = name in ("pooled", "tokens")
  if not plain and not (kind in ("mean", "class") and layer.isdigit() and int(layer) < depth):
    raise ValueError(
      f"--features={name} is none of pooled, tokens, mean_0 to mean_{depth - 1}, class_0 to "
      f"class_{depth - 1}"
    )
  return name, kind, int(layer) if layer else None


def _pick(places, features: Features) -> dict[str, jax.Array]:
  """The chosen features by name."""
  found = {}
  for name, kind, layer in places:
    if layer is None:
      found[name] = getattr(features, kind)
      continue
    x = features.layers[layer]
    # A class token and registers stand in front of the patches; maps have none.
    front = x.shape[1] - features.tokens.shape[1] if x.ndim == 3 else 0
    if kind == "class" and not front:
      raise ValueError(f"--features={name}: the encoder has no class token; choose mean_{layer}")
    patches = x[:, front:].reshape(len(x), -1, x.shape[-1])
    found[name] = x[:, 0] if kind == "class" else jnp.mean(patches, 1)
  return found


def _flat(encode, pick, names):
  """What `evaluate.embed` takes: all that was chosen, side by side as one vector."""

  def encoded(variables, image):
    features = encode(variables, image)
    chosen = pick(features)
    flat = [chosen[name].reshape(len(image), -1).astype(jnp.float32) for name in names]
    return features._replace(pooled=jnp.concatenate(flat, 1))

  return encoded


def _encode(frozen: Frozen, encode, shapes, span: data.Source, size: int, bar):
  """Features of a span by name, and its labels."""

  def watched(batches):
    for batch in batches:
      yield batch
      bar.update(len(batch["label"]) * jax.process_count())

  embedded = outcome.encode_split(
    encode, frozen.variables, span, size, frozen.mesh, progress=watched
  )
  ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
  parts = np.split(embedded.features, ends[:-1], 1)
  found = {
    name: part.reshape(-1, *shape)
    for (name, shape), part in zip(shapes.items(), parts, strict=True)
  }
  return found | {"label": embedded.label}


def _part(parts: Path, name: str, first: int, last: int) -> Path:
  return parts / f"{name}_{first}_{last}.npz"


def _same_run(parts: Path, settings: Settings, frozen: Frozen) -> None:
  """Notes what the parts are of, or raises if those that are there are of something else."""
  what = {name: settings.values()[name] for name in _WHAT}
  what["images"] = [len(frozen.dataset.train), len(frozen.dataset.test)]
  record = parts / "run.json"

  def look():
    before = json.loads(record.read_text()) if record.exists() else what
    if before == what:
      launch.write_whole(record, json.dumps(what))
    return before

  before = hosts.by_lead(look)
  if changed := [name for name in what if before.get(name) != what[name]]:
    name = changed[0]
    raise ValueError(
      f"{parts} holds parts of a run with --{name}={before.get(name)}, this one has {what[name]}; "
      f"give that again, remove the folder, or choose another --out"
    )


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes an archive so that it is whole or absent at any moment."""
  path.parent.mkdir(parents=True, exist_ok=True)
  fresh = path.with_name(f".{path.name}")
  with open(fresh, "wb") as file:
    np.savez(file, **arrays)
  fresh.replace(path)


if __name__ == "__main__":
  run_app(main)
