"""Exact k-nearest-neighbour search beside faiss and scikit-learn: time and peak memory, as ratios.

  python benchmarks/search.py --keys=100000 --queries=1000
  python benchmarks/search.py --keys=1000000 --queries=10000

Each side runs in a process of its own on random float32 rows of ``--dim``, searches once to compile
and warm up, then ``--times`` times, of which the fastest counts. ``memory`` is by how much the
process's peak rises above what it held once the rows were there. faiss takes part where it is
installed. Ratios are of the rival's number to ours: above 1 we are faster, or smaller.
"""

import json
import resource
import subprocess
import sys
import time

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("keys", 100_000, "Rows of the gallery.", lower_bound=1)
flags.DEFINE_integer("queries", 1_000, "Rows to find neighbours of.", lower_bound=1)
flags.DEFINE_integer("dim", 512, "Of a row.", lower_bound=1)
flags.DEFINE_integer("k", 10, "Neighbours of each.", lower_bound=1)
flags.DEFINE_integer("times", 3, "Timed searches.", lower_bound=1)
flags.DEFINE_string("side", None, "One of SIDES, to run it alone in this process.")


def ours(query, keys, k):
  from repjax.evaluate import search_gallery

  return lambda: search_gallery(query, keys, k=k).index


def faiss(query, keys, k):
  from repjax.evaluate import search_by_faiss

  return lambda: search_by_faiss(query, keys, k=k).index


def scikit_learn(query, keys, k):
  from sklearn.neighbors import NearestNeighbors

  rival = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(keys)
  return lambda: rival.kneighbors(query, return_distance=False)


SIDES = {"ours": ours, "faiss": faiss, "scikit_learn": scikit_learn}


def peak_mib() -> float:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(side: str) -> dict:
  """Runs one side in this process."""
  rng = np.random.default_rng(0)
  draw = lambda rows: rng.standard_normal((rows, FLAGS.dim), np.float32)
  keys, query = draw(FLAGS.keys), draw(FLAGS.queries)
  before = peak_mib()
  search = SIDES[side](query, keys, FLAGS.k)
  index, seconds = search(), []
  for _ in range(FLAGS.times):
    start = time.perf_counter()
    index = search()
    seconds.append(time.perf_counter() - start)
  return {"seconds": min(seconds), "memory": peak_mib() - before, "found": index[:100].tolist()}


def main(_) -> None:
  if FLAGS.side:
    print(json.dumps(measure(FLAGS.side)))
    return
  given = [f"--{n}={FLAGS[n].value}" for n in ("keys", "queries", "dim", "k", "times")]
  measured = {}
  for side in SIDES:
    command = [sys.executable, __file__, f"--side={side}", *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
      print(f"{side}: {done.stderr.strip().splitlines()[-1]}")
      continue
    measured[side] = json.loads(done.stdout.splitlines()[-1])
  mine = measured["ours"]
  print(f"{FLAGS.keys} keys, {FLAGS.queries} queries, dim {FLAGS.dim}, k={FLAGS.k}")
  print(f"{'':14}{'seconds':>9}{'ratio':>7}{'MiB':>8}{'ratio':>7}{'agree':>7}")
  for side, own in measured.items():
    same = [
      len(set(a) & set(b)) / FLAGS.k for a, b in zip(own["found"], mine["found"], strict=True)
    ]
    print(
      f"{side:14}{own['seconds']:9.3f}{own['seconds'] / mine['seconds']:7.2f}"
      f"{own['memory']:8.0f}{own['memory'] / mine['memory']:7.2f}{np.mean(same):7.3f}"
    )


if __name__ == "__main__":
  app.run(main)
