"""Which tests of losses are for every day, and which for --thorough."""

import pathlib

import pytest

HERE = pathlib.Path(__file__).parent
EVERYDAY = {"test_contrastive.py", "test_losses.py", "test_pairs.py"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Answers of other libraries are compared every day; laws of single losses, which compile one
  operation after the other, take four minutes and wait for --thorough."""
  for item in items:
    if item.path.parent == HERE and item.path.name not in EVERYDAY:
      if "answer" not in getattr(item, "callspec", item).__dict__.get("params", {}):
        item.add_marker(pytest.mark.thorough)
