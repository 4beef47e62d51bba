"""Every loss of the library: definition, layouts and laws, as harness.py states them.

Without --thorough, only the first case of each loss is looked at, at one shape and on one layout,
and in tiles on a single device alone.
"""

import importlib
import pathlib

import harness
import pytest

FAMILIES = sorted(path.stem for path in pathlib.Path(__file__).parent.glob("definitions/*.py"))
CASES = [case for name in FAMILIES for case in importlib.import_module(f"definitions.{name}").CASES]
# By what a loss is called, since partial functions of one loss are not equal.
FIRST = {getattr(case.loss, "__name__", case.name): case for case in reversed(CASES)}
EVERYDAY = {case.name for case in FIRST.values()}
TILED = [harness.in_tiles(case) for case in CASES if harness.takes(case, "tile_size")]
SHAPE = (7, 5)
LAYOUT = "shard_map_8"


def param(case, everyday, *values):
  everyday = everyday and case.name.removesuffix("-tiled") in EVERYDAY
  marks = () if everyday else (pytest.mark.thorough,)
  labels = [v if isinstance(v, str) else "x".join(map(str, v)) for v in values]
  return pytest.param(case, *values, marks=marks, id="-".join([case.name, *labels]))


def every(cases, everyday=True):
  return pytest.mark.parametrize("case", [param(case, everyday) for case in cases])


def with_shapes():
  for case in CASES:
    for shape in harness.SHAPES if case.definition else ():
      yield param(case, shape == SHAPE, shape)


def with_layouts():
  for case in CASES:
    for layout in harness.layouts(case):
      yield param(case, layout == LAYOUT, layout)
  for case in TILED:
    for layout in harness.layouts(case):
      yield param(case, False, layout)


@pytest.mark.parametrize(("case", "shape"), list(with_shapes()))
def test_loss_equals_its_definition(case, shape):
  harness.check_definition(case, shape)


@pytest.mark.parametrize(("case", "layout"), list(with_layouts()))
def test_loss_is_one_on_any_layout(case, layout):
  harness.check_layout(case, layout)


@every(TILED)
def test_loss_in_tiles_is_the_loss(case):
  whole = next(c for c in CASES if c.name == case.name.removesuffix("-tiled"))
  harness.assert_close(harness.expected(case), harness.expected(whole))


@every([case for case in CASES if case.permutes], everyday=False)
def test_rows_follow_a_permutation(case):
  harness.check_permutation(case)


@every([case for case in CASES if harness.may_leave_out(case)], everyday=False)
def test_leaving_rows_out_equals_dropping_them(case):
  harness.check_dropping(case)


@every(CASES, everyday=False)
def test_loss_is_finite_at_degenerate_inputs(case):
  harness.check_finite(case)


@every(TILED, everyday=False)
def test_loss_in_tiles_is_finite_at_degenerate_inputs(case):
  harness.check_finite(case)


@every(CASES, everyday=False)
def test_bfloat16_is_rounded_once(case):
  harness.check_bfloat16(case)


@every([case for case in CASES if case.stopped])
def test_nothing_flows_into_stopped_arguments(case):
  harness.check_stopped(case)


def test_case_names_are_unique():
  names = [case.name for case in CASES]
  assert len(set(names)) == len(names)
