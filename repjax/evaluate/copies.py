"""Copy detection: which queries are copies of a reference, of which, and which are of none."""

import numpy as np

from repjax.evaluate.embed import unit_rows


def micro_average_precision(score: np.ndarray, relevant: np.ndarray) -> float:
  r"""Average precision of all pairs of queries and references in one ranking.

  .. math:: \sum_t (R_t - R_{t-1}) P_t

  over the thresholds t from the highest score to the lowest, with precision P and recall R of the
  pairs at or above. A mean over queries asks which reference is nearest; this asks too that one
  threshold tells copies from what only looks like one, so that queries without any match count.
  Pairs of equal score are accepted together.

  Args:
    score: ``[query, reference]``, higher for what is more alike.
    relevant: ``[query, reference]`` bool, whether the query is a copy of the reference.

  Returns:
    A number in (0, 1].

  Raises:
    ValueError: if shapes differ or no pair is one.

  References:
    Douze et al., `The 2021 Image Similarity Dataset and Challenge
    <https://arxiv.org/abs/2106.09672>`_, 2021, section 4.
  """
  return _area(*_precision_and_recall(score, relevant))


def copy_detection(
  queries: np.ndarray, references: np.ndarray, partner: np.ndarray, *, precision: float = 0.9
) -> dict[str, float]:
  """Scores all pairs by the cosine of their descriptors.

  Args:
    queries: ``[query, dim]``; of whichever model.
    references: ``[reference, dim]``; of the same or of another.
    partner: ``[query]`` int, of which reference a query is a copy; -1 where of none.
    precision: of the recall, in (0, 1].

  Returns:
    ``micro_ap``, see `micro_average_precision`; ``recall_at_p{percent}``, the highest share of
    copies that a threshold of at least that precision finds, 0 if there is none; and
    ``recall_at_1``, the share of copies whose nearest reference is theirs.

  Raises:
    ValueError: if widths or lengths do not fit, or no query is a copy.
  """
  queries, references, partner = map(np.asarray, (queries, references, partner))
  if queries.shape[1:] != references.shape[1:] or partner.shape != queries.shape[:1]:
    raise ValueError(
      f"expected queries [query, dim], references [reference, dim] and partner [query], got "
      f"{queries.shape}, {references.shape} and {partner.shape}"
    )
  score = unit_rows(queries) @ unit_rows(references).T
  relevant = partner[:, None] == np.arange(len(references))[None]
  exact, found = _precision_and_recall(score, relevant)
  copies = partner >= 0
  return {
    "micro_ap": _area(exact, found),
    f"recall_at_p{100 * precision:.0f}": float(np.max(found, where=exact >= precision, initial=0)),
    "recall_at_1": float(np.mean(np.argmax(score[copies], 1) == partner[copies])),
  }


def _area(precision, recall):
  return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def _precision_and_recall(score, relevant):
  """At every threshold from the highest to the lowest."""
  score, relevant = np.asarray(score, np.float64), np.asarray(relevant, bool)
  if score.shape != relevant.shape or score.ndim != 2 or not relevant.any():
    raise ValueError(
      f"expected score and relevant [query, reference] with a pair that is one, got {score.shape} "
      f"and {relevant.shape} with {relevant.sum()}"
    )
  score, relevant = score.ravel(), relevant.ravel()
  order = np.argsort(-score, kind="stable")
  ends = np.append(np.flatnonzero(np.diff(score[order])), score.size - 1)
  hits = np.cumsum(relevant[order])[ends]
  return hits / (ends + 1), hits / hits[-1]
