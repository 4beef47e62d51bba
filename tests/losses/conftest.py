"""Which tests of losses are for every day, and in which order they run."""

import pathlib

import pytest

HERE = pathlib.Path(__file__).parent
EVERYDAY = {"test_contrastive.py", "test_losses.py", "test_pairs.py"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Compiling is what these tests cost.

  Laws of single losses, which compile one operation after the other, and answers of other libraries
  wait for --thorough. What is tested of one case runs in a row, so that it shares programs.
  """
  ours = [item for item in items if item.path.parent == HERE]
  cases = {}
  for item in ours:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    if item.path.name not in EVERYDAY:
      item.add_marker(pytest.mark.thorough)
    if "case" in params:
      cases.setdefault(params["case"].name.removesuffix("-tiled"), []).append(item)
  grouped = [item for group in cases.values() for item in group]
  kept = set(grouped)
  items[:] = [item for item in items if item not in kept] + grouped
