"""How a training step grows with batch, tokens, depth and devices, by plan: a picture and its data.

  pip install -e '.[plan,plots]'
  python benchmarks/growth.py

compiles a SimCLR step of a ViT in bfloat16 (scanned, recomputed) for slices of TPU v4, once for
every point, and draws predicted time and memory of a chip into benchmarks/growth.png: nothing is
run. Some 15 minutes on two cores; what benchmarks/growth.json holds already is not compiled again.
"""

import json
from pathlib import Path

import matplotlib
import numpy as np
from absl import app, flags
from tqdm import tqdm

from experiments.plan import plan
from repjax.encoders.vit import SIZES

matplotlib.use("Agg")
from matplotlib import pyplot

FLAGS = flags.FLAGS
flags.DEFINE_string("out", str(Path(__file__).with_suffix("")), "Path of picture and data.")

CHIP, EIGHT = "v4", "2x2x2"
BASE = {
  "experiment": "simclr", "encoder": "vit_l16", "scan": True, "remat": True, "dtype": "bfloat16",
  "image_size": 224, "topology": f"{CHIP}:{EIGHT}", "batch_size": 8 * 32, "mesh": "data:-1,fsdp:8",
  "largest_batch": False, "progress": False,
}  # fmt: skip
# Slices that exist: 8 to 2,048 chips.
SLICES = {8: "2x2x2", 128: "4x4x8", 2048: "8x16x16"}
SERIES = {
  "images a chip": [(n, {"batch_size": 8 * n}) for n in (8, 32, 128)],
  "tokens an image": [((s // 16) ** 2, {"image_size": s}) for s in (112, 224, 448)],
  "blocks (ViT-S, L, g)": [(SIZES[s].depth, {"encoder": f"vit_{s}16"}) for s in ("s", "l", "g")],
  "chips, 32 images each": [
    (n, {"topology": f"{CHIP}:{sides}", "mesh": "data:-1,fsdp:8", "batch_size": 32 * n})
    for n, sides in SLICES.items()
  ],
}


def _key(given):
  told = BASE | given
  return ", ".join(str(told[k]) for k in ("encoder", "image_size", "batch_size", "topology"))


def _draw(points, path):
  figure, axes = pyplot.subplots(2, len(SERIES), figsize=(14, 6), sharex="col", sharey="row")
  for column, (name, series) in zip(axes.T, SERIES.items(), strict=True):
    x = [value for value, _ in series]
    plans = [points[_key(given)] for _, given in series]
    time, memory = column
    for leg, style in (("compute", "o-"), ("memory", "s-"), ("ICI", "^-")):
      time.plot(x, [1e3 * p["legs"].get(leg, np.nan) for p in plans], style, label=leg)
    memory.plot(x, [p["peak"] / 2**30 for p in plans], "o-", color="black", label="needed")
    memory.axhline(plans[0]["capacity"] / 2**30, color="grey", ls="--", label="of the chip")
    for axis in column:
      axis.set_xscale("log", base=2)
      axis.set_yscale("log")
      axis.set_xticks(x, [f"{value:,}" for value in x])
      axis.minorticks_off()
      axis.grid(alpha=0.3)
    memory.set_xlabel(name)
  axes[0, 0].set_ylabel("ms a step, each by itself")
  axes[1, 0].set_ylabel("GiB a chip")
  axes[0, 0].legend()
  axes[1, 0].legend()
  figure.suptitle("A SimCLR step, ViT-L/16, bfloat16, TPU v4, planned and not run", y=0.98)
  figure.tight_layout()
  figure.savefig(path, dpi=80)


def main(_):
  data = Path(f"{FLAGS.out}.json")
  points = json.loads(data.read_text()) if data.exists() else {}
  # Series share the point that they start from.
  wanted = {_key(given): given for series in SERIES.values() for _, given in series}
  for key, given in tqdm(wanted.items(), unit="program"):
    if key not in points:
      made = plan(**BASE | given)["plans"][0]
      points[key] = {
        "legs": made["legs"],
        "peak": made["memory"]["peak"],
        "capacity": made["chip"]["memory"],
        "compile_seconds": round(made["compile_seconds"], 1),
      }
      data.write_text(json.dumps(points, indent=1) + "\n")
  _draw(points, f"{FLAGS.out}.png")
  print(f"{FLAGS.out}.png")


if __name__ == "__main__":
  app.run(main)
