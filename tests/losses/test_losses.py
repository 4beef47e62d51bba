"""Every loss of the library: definition, layouts and laws, as harness.py states them."""

import importlib
import pathlib

import harness
import pytest

FAMILIES = sorted(path.stem for path in pathlib.Path(__file__).parent.glob("definitions/*.py"))
CASES = [case for name in FAMILIES for case in importlib.import_module(f"definitions.{name}").CASES]
TILED = [harness.in_tiles(case) for case in CASES if harness.takes(case, "tile_size")]


def every(cases):
  return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@every([case for case in CASES if case.definition])
@pytest.mark.parametrize("shape", harness.SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_loss_equals_its_definition(case, shape):
  harness.check_definition(case, shape)


@pytest.mark.parametrize(
  ("case", "layout"),
  [
    pytest.param(case, layout, id=f"{case.name}-{layout}")
    for case in CASES + TILED
    for layout in harness.layouts(case)
  ],
)
def test_loss_is_one_on_any_layout(case, layout):
  harness.check_layout(case, layout)


@every(TILED)
def test_loss_in_tiles_is_the_loss(case):
  whole = next(c for c in CASES if c.name == case.name.removesuffix("-tiled"))
  harness.assert_close(harness.expected(case), harness.expected(whole))


@every([case for case in CASES if case.permutes])
def test_rows_follow_a_permutation(case):
  harness.check_permutation(case)


@every([case for case in CASES if harness.may_leave_out(case)])
def test_leaving_rows_out_equals_dropping_them(case):
  harness.check_dropping(case)


@every(CASES + TILED)
def test_loss_is_finite_at_degenerate_inputs(case):
  harness.check_finite(case)


@every(CASES)
def test_bfloat16_is_rounded_once(case):
  harness.check_bfloat16(case)


@every([case for case in CASES if case.stopped])
def test_nothing_flows_into_stopped_arguments(case):
  harness.check_stopped(case)


def test_case_names_are_unique():
  names = [case.name for case in CASES]
  assert len(set(names)) == len(names)
