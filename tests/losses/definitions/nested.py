"""Losses of prefixes too, in NumPy."""

from definitions.contrastive import info_nce, nt_xent, queue
from definitions.relational import similarity_preserving
from harness import Case, normal

from repjax.losses import contrastive, nested, relational

SIZES, WEIGHTS = (3, 2), (1.0, 0.3)


def prefixes(loss):
  def of_prefixes(**arrays):
    parts = ({k: v[:, :m] for k, v in arrays.items()} for m in SIZES)
    return sum(c * loss(**part) for c, part in zip(WEIGHTS, parts, strict=True))

  return of_prefixes


def case(name, ours, definition, draw, *shared, **more):
  ours = nested.matryoshka(ours, SIZES, WEIGHTS)
  return Case(name, ours, draw, prefixes(definition), *shared, **more)


PAIR, VIEWS, STUDENT = normal("query", "key"), normal("z_1", "z_2"), normal("student", "teacher")
CASES = [
  case("matryoshka_nt_xent", contrastive.nt_xent, nt_xent, VIEWS),
  case("matryoshka_info_nce_queue", contrastive.info_nce, info_nce, PAIR, queue),
  case(
    "matryoshka_similarity_preserving",
    relational.similarity_preserving,
    similarity_preserving,
    STUDENT,
    stopped=("teacher",),
  ),
]
