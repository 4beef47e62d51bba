"""Says when a run has collapsed: all features are one, or lie on a line."""

from collections.abc import Mapping

from absl import logging

_STD, _RANK = 0.05, 1.1  # untrained nets have some 0.3 and 4


class CollapseWatch:
  """Warns in one line when features collapse, and again only after they have recovered."""

  def __init__(self):
    self._said = False

  def look(self, step: int, metrics: Mapping[str, float]) -> None:
    """Looks at one line of the log.

    Args:
      step: updates made.
      metrics: those of a learner; of interest are ``feature_std`` and ``feature_rank``, as
        `repjax.learners.spread` defines them. Without them nothing is said.
    """
    std, rank = metrics.get("feature_std"), metrics.get("feature_rank")
    found = None
    if std is not None and std < _STD:
      found = f"all images have nearly one feature vector: feature_std is {std:.2g} of at most 1"
    elif rank is not None and rank < _RANK:
      found = f"features lie nearly on a line: feature_rank is {rank:.3g}"
    if found and not self._said:
      logging.warning(
        "collapsed by step %d: %s; try a lower --learning_rate, a stronger --augment, or the "
        "method's own guard (temperature, momentum of the teacher, weights of its terms)",
        step,
        found,
      )
    self._said = found is not None
