"""The table: every protocol's numbers, aligned, with standard errors beside their means."""

import jax

from repjax.evaluate import evaluate, format_table

ROWS = {
  "raw pixels": {"shot_1": 0.6451, "shot_1_stderr": 0.0123, "linear_penalty": 1e-5},
  "trained": {"shot_1": 0.7714, "shot_1_stderr": 0.0098, "knn_20": 0.98, "linear_penalty": 0.1},
}


def test_a_table_reads_as_written():
  assert format_table(ROWS).splitlines() == [
    "                   shot_1  linear_penalty  knn_20",
    "raw pixels  0.645 ± 0.012           1e-05       -",
    "trained     0.771 ± 0.010           0.100   0.980",
  ]


def test_columns_choose_and_order():
  assert format_table(ROWS, columns=["knn_20", "shot_1"], digits=2).splitlines() == [
    "            knn_20       shot_1",
    "raw pixels       -  0.65 ± 0.01",
    "trained       0.98  0.77 ± 0.01",
  ]


def test_half_an_interval_stands_beside_its_number():
  rows = {"trained": {"ridge_5way_1shot": 0.5, "ridge_5way_1shot_ci95": 0.01}}
  assert format_table(rows).splitlines()[1] == "trained     0.500 ± 0.010"


def test_every_protocol_gets_the_same_splits_and_key():
  calls = []

  def protocol(name):
    def run(train, test, *, key):
      calls.append((train, test, key))
      return {name: 0.5}

    return run

  key = jax.random.key(3)
  numbers = evaluate("train", "test", key=key, protocols=(protocol("a"), protocol("b")))
  assert numbers == {"a": 0.5, "b": 0.5}
  assert calls == [("train", "test", key)] * 2
