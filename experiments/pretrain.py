"""A pretraining run from start to report; a launcher adds its method and the method's flags."""

import functools
import json
from pathlib import Path

from experiments import outcome
from experiments.records import read_record
from experiments.setup import Method, prepare
from repjax import evaluate
from repjax.train import hosts, launch, train
from repjax.train.launch import Settings
from repjax.train.workdir import open_workdir


def run(method: Method, settings: Settings) -> None:
  """Pretrains, evaluates and reports.

  Args:
    method: what the launcher adds.
    settings: the flags.
  """
  launch.use_compile_cache(settings)
  default = f"runs/{method.name}_{settings.data.partition(':')[0]}"
  with open_workdir(settings, default, method.name) as workdir:
    ready = prepare(method, settings)
    if hosts.is_lead():
      launch.write_whole(workdir / "statistics.json", json.dumps(ready.statistics))
    look = functools.partial(_look, ready, settings.eval_batch_size)
    options = {
      "workdir": workdir,
      "mesh": ready.mesh,
      "seed": settings.seed,
      "parallel": settings.parallel,
      "sharding": settings.sharding,
      "evaluate": look if ready.held is not None else None,
      "watch": lambda step: {"learning_rate": ready.rate(step)},
      "record": {"flags": settings.values()},
      "tensorboard": settings.tensorboard,
      "progress": settings.progress,
    }
    results = settings.results and Path(settings.results)
    settings.check_all_read()
    read = lambda: read_record(results, outcome.command(method, settings)) if results else []
    hosts.by_lead(read)  # rather find out now
    trained = train(ready.learner, ready.feed, ready.schedule, **options)
    table, features = outcome.score(method, settings, ready, trained.state)
    page = outcome.report(method, settings, ready, trained, table, features, workdir)
    if page is None:
      return  # the lead writes and prints
    outcome.record(workdir / "results.json", method, settings, ready, table, before=[])
    if results:
      outcome.record(results, method, settings, ready, table, before=read())
    if table:
      print("\n" + evaluate.format_table(table, columns=outcome.columns(table)))
    print(f"\n{outcome.summary(method, table)}\nreport: {page}")
    if method.next_command:
      print(f"next:   {method.next_command}")


def _look(ready, size, state):
  bank = outcome.embed(ready, state, ready.bank, size, "train", quiet=True)
  held = outcome.embed(ready, state, ready.held, size, "validation", quiet=True)
  return evaluate.knn(bank, held, k=(1, 20)) if hosts.is_lead() else {}
