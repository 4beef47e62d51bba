"""Collapse is said once, in one line, and only where it is."""

import pytest

from repjax.train.collapse import CollapseWatch

FINE = {"feature_std": 0.3, "feature_rank": 4.0}


@pytest.fixture
def said(caplog):
  watch = CollapseWatch()

  def look(*lines):
    caplog.clear()
    for step, line in enumerate(lines, 1):
      watch.look(step, FINE | line)
    return [record.getMessage() for record in caplog.records]

  return look


def test_features_that_spread_are_not_spoken_of(said):
  assert said({}, {"feature_std": 0.06}, {"feature_rank": 1.2}) == []


def test_learners_without_these_metrics_are_left_alone(caplog):
  CollapseWatch().look(1, {"loss": 0.0})
  assert not caplog.records


def test_one_feature_vector_for_all_is_said_once_with_its_number(said):
  (line,) = said({"feature_std": 0.004}, {"feature_std": 0.003})
  assert line.startswith("collapsed by step 1: all images have nearly one feature vector")
  assert "feature_std is 0.004" in line and "\n" not in line


def test_features_on_a_line_are_said_with_their_rank(said):
  (line,) = said({}, {"feature_rank": 1.04})
  assert line.startswith("collapsed by step 2: features lie nearly on a line: feature_rank is 1.04")


def test_a_run_that_recovers_and_collapses_again_is_told_again(said):
  assert len(said({"feature_std": 0.0}, {}, {"feature_std": 0.0})) == 2
