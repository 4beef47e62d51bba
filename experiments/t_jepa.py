"""T-JEPA on tables: does prediction of columns from columns make features, and what keeps them up?

  python -m experiments.t_jepa

A linear probe on features of two tables that come with scikit-learn is compared with the same
probe on the columns, and with an encoder that is not trained; a run without the regularisation
token tells whether features collapse without it, as the paper finds. Features are all tokens in a
row, as the authors' probes take them.

A seed takes two minutes of one core. Over three seeds the probe gives 0.962 (0.003 standard error)
for T-JEPA, 0.963 without the regularisation token, 0.958 untrained, 0.957 for the columns: nothing
is shown. Nor does the token keep features up on these tables: their deviation falls to 0.31 with it
and 0.40 without, from 0.62.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import claim
from repjax import evaluate
from repjax.encoders import TableTransformer, TokenPredictor
from repjax.evaluate.embed import Embedded
from repjax.learners import by_gradient, rising_momentum, t_jepa
from repjax.learners.spread import spread
from repjax.train.launch import Settings, run_app

TABLES = ("breast_cancer", "digits")
STEPS, BATCH, TEST = 400, 64, 0.3
DIM = 16
PENALTIES = (1e-2, 1e-1, 1.0)


def tables(seed: int) -> dict[str, tuple[Embedded, Embedded]]:
  """Train and test rows of each table, standardised by the train rows."""
  from sklearn import datasets

  out = {}
  for name in TABLES:
    rows, label = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(rows))
    cut = round(len(rows) * TEST)
    test, train = order[:cut], order[cut:]
    spread_of = rows[train].std(0)
    rows = (rows - rows[train].mean(0)) / np.where(spread_of > 0, spread_of, 1)
    # A column that hardly ever moves is far out where it does.
    rows, label = np.clip(rows, -5, 5).astype(np.float32), label.astype(np.int32)
    out[name] = tuple(Embedded(rows[part], label[part]) for part in (train, test))
  return out


def pretrain(rows: np.ndarray, seed: int, steps: int, registers: int):
  """A learner, its state at first and its state after some steps on rows."""
  columns = rows.shape[1]
  encoder = TableTransformer((0,) * columns, DIM, 2, 4, registers=registers, pool="flat")
  predictor = TokenPredictor(DIM // 2, 2, 2, DIM, (1, columns), positions="learned")
  objective = t_jepa(encoder, predictor, blocks=2, momentum=rising_momentum(0.98, STEPS))
  schedule = optax.warmup_cosine_decay_schedule(0, 2e-3, STEPS // 10, STEPS)
  learner = by_gradient(objective, optax.adamw(schedule, weight_decay=1e-4))
  fit = functools.partial(claim.fit, learner, {"row": rows}, batch_size=BATCH, seed=seed)
  return learner, fit(steps=0), fit(steps=steps)


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Probes of each table and their mean, and how far features spread."""
  steps = claim.steps_of(settings, STEPS)
  numbers = {name: {} for name in ("t_jepa", "no_register", "untrained", "raw_features")}
  for table, (train, test) in tables(seed).items():
    told = {"raw_features": (train.features, test.features)}
    for method, registers in (("t_jepa", 1), ("no_register", 0)):
      learner, first, last = pretrain(train.features, seed, steps, registers)
      rows = np.concatenate([train.features, test.features])
      encode = jax.jit(lambda state, rows, learner=learner: learner.encode(state, rows).pooled)
      cut = [len(train.features)]
      told[method] = np.split(np.asarray(encode(last, rows)), cut)
      if registers:
        told["untrained"] = np.split(np.asarray(encode(first, rows)), cut)
    for method, (fit_on, judged) in told.items():
      parts = Embedded(fit_on, train.label), Embedded(judged, test.label)
      probe = evaluate.linear_probe(*parts, key=jax.random.key(seed), penalties=PENALTIES)
      spread_of = spread(jnp.asarray(judged))
      numbers[method] |= {
        f"linear_{table}": probe["linear"],
        f"std_{table}": float(spread_of["feature_std"]),
        f"rank_{table}": float(spread_of["feature_rank"]),
      }
  for values in numbers.values():
    for metric in ("linear", "std", "rank"):
      values[metric] = float(np.mean([values[f"{metric}_{table}"] for table in TABLES]))
  return numbers


def main(settings: Settings) -> None:
  """Runs the experiment."""
  described = "scikit-learn's breast_cancer and digits as tables, 70 % train, standardised"
  claim.run("t_jepa", study, settings, described=described)


if __name__ == "__main__":
  run_app(main)
