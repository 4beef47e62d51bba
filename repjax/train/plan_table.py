"""Plans in words and tables, and as JSON."""

import math
from collections.abc import Sequence
from typing import Any

from repjax.train.plan import COMPUTE, MEMORY, Plan, hint, spell


def describe(plan: Plan, *, largest: Plan | None = None, searched: bool = False) -> str:
  """A plan for people.

  Args:
    plan: any.
    largest: the plan of the largest batch that fits, if there is one.
    searched: whether it was looked for.

  Returns:
    Several lines.
  """
  chip, memory = plan.chip, plan.memory
  lines = [
    f"{plan.devices} x {chip.name} as {spell(plan.mesh)}: {_gib(chip.memory)} GiB each, "
    f"{_si(chip.flops, 'FLOP/s')}, {_si(chip.bandwidth, 'B/s')} ({chip.source}); "
    f"compiled in {plan.compile_seconds:.0f} s",
    "",
    *_grid(
      [
        ("memory of a device", "GiB"),
        ("arguments", _gib(memory.arguments)),
        ("outputs not in their place", _gib(memory.outputs - memory.aliased)),
        ("temporaries", _gib(memory.temporaries)),
        ("program", _gib(memory.code)),
        ("peak", f"{_gib(memory.peak)} of {_gib(chip.memory)}"),
      ]
    ),
    "",
  ]
  if plan.fits:
    lines.append(f"fits: {memory.peak / chip.memory:.0%} of the memory")
  else:
    refused = " (the compiler refuses it and names the temporaries)" if not plan.program else ""
    lines.append(f"does not fit{refused}")
  if searched:
    lines.append(
      "no batch fits"
      if largest is None
      else f"largest batch that fits: {largest.batch_size} "
      f"({_gib(largest.memory.peak)} GiB, compiled; within 2%)"
    )
  if plan.program:
    lines += ["", *_costs(plan), "", *_collectives(plan), "", *_roofline(plan)]
  return "\n".join([*lines, f"next: {hint(plan)}"])


def _costs(plan):
  program, chip, devices = plan.program, plan.chip, plan.devices
  rows = [("one step", "all devices", "a device", "alone, ms")]

  def add(name, each, unit, seconds):
    rows.append((name, _si(each * devices, unit), _si(each, unit), _ms(seconds)))

  model = plan.model_flops / devices
  add("arithmetic of the model", model, "FLOP", model / chip.flops)
  add("products as compiled", program.products, "FLOP", program.products / chip.flops)
  add("through memory", program.traffic, "B", plan.legs[MEMORY])
  for medium in plan.legs:
    if medium not in (COMPUTE, MEMORY):
      sent = sum(row.nbytes for row in program.collectives if row.medium == medium)
      add(f"sent over {medium}", sent, "B", plan.legs[medium])
  return _grid(rows)


def _collectives(plan):
  if not plan.program.collectives:
    return ["no collectives"]
  rows = [("collective", "over", "link", "times", "a device", "ms")]
  for row in plan.program.collectives:
    rows.append(
      (
        row.kind, "+".join(row.axes), row.medium, f"{row.count:g}", _si(row.nbytes, "B"),
        _ms(row.seconds),
      )
    )  # fmt: skip
  return _grid(rows)


def _roofline(plan):
  program = plan.program
  lines = [
    f"roofline, if all of these overlap perfectly: {_ms(plan.seconds)} ms a step, "
    f"{plan.batch_size / plan.seconds:,.0f} examples/s, {plan.share_of_peak:.1%} of peak; "
    f"{plan.binds} binds"
  ]
  unknown = [name for name, seconds in plan.legs.items() if math.isnan(seconds)]
  if unknown:
    lines.append(f"the rate of {', '.join(unknown)} is not known and left out")
  if program.unknown_loops:
    lines.append(f"{len(program.unknown_loops)} loops of unknown length count once")
  if program.opaque:
    lines.append(f"products inside these calls are not counted: {', '.join(program.opaque)}")
  return lines


def rank(plans: Sequence[Plan]) -> list[Plan]:
  """Orders plans.

  Args:
    plans: any.

  Returns:
    Those that fit, the fastest first; then the others, the smallest first.
  """
  return sorted(
    plans, key=lambda plan: (not plan.fits, plan.seconds if plan.fits else plan.memory.peak)
  )


def ranking(plans: Sequence[Plan]) -> str:
  """A table of layouts.

  Args:
    plans: of the same step on the same machine.

  Returns:
    One line a plan, the best first.
  """
  rows = [("mesh", "peak, GiB", "", "ms a step", "of peak", "binds", "compiled in, s")]
  for plan in rank(plans):
    time = (_ms(plan.seconds), f"{plan.share_of_peak:.1%}") if plan.program else ("", "")
    fits = "fits" if plan.fits else "does not fit"
    peak, compiled = _gib(plan.memory.peak), f"{plan.compile_seconds:.0f}"
    rows.append((spell(plan.mesh), peak, fits, *time, plan.binds, compiled))
  return "\n".join(_grid(rows))


def in_a_line(plan: Plan) -> str:
  """What a ranking will say of a plan.

  Args:
    plan: any.

  Returns:
    One line.
  """
  fits = "fits" if plan.fits else "does not fit"
  time = f", {_ms(plan.seconds)} ms, {plan.binds} binds" if plan.program else ""
  return f"{spell(plan.mesh)}: {_gib(plan.memory.peak)} GiB, {fits}{time}"


def to_json(plan: Plan) -> dict[str, Any]:
  """A plan as plain values.

  Args:
    plan: any.

  Returns:
    What `json.dumps` takes; rates that are not known are null.
  """
  known = lambda number: None if math.isnan(number) else number
  program = plan.program
  return {
    "mesh": dict(plan.mesh),
    "batch_size": plan.batch_size,
    "devices": plan.devices,
    "chip": plan.chip._asdict(),
    "fits": plan.fits,
    "memory": plan.memory._asdict() | {"peak": plan.memory.peak},
    "model_flops": plan.model_flops,
    "products_per_device": program and program.products,
    "traffic_per_device": program and program.traffic,
    "collectives": [
      row._asdict() | {"seconds": known(row.seconds)} for row in program.collectives
    ] if program else [],
    "unknown_loops": program.unknown_loops if program else [],
    "opaque": program.opaque if program else [],
    "legs": {name: known(seconds) for name, seconds in plan.legs.items()},
    "binds": plan.binds,
    "seconds": known(plan.seconds),
    "share_of_peak": known(plan.share_of_peak),
    "compile_seconds": plan.compile_seconds,
    "hint": hint(plan),
  }  # fmt: skip


def _gib(nbytes):
  return f"{nbytes / 2**30:.2f}"


def _si(number, unit):
  """Four digits and a prefix, such as 13.07 PFLOP."""
  if not number:
    return f"0 {unit}"
  power = min(max(int(math.log10(number) // 3), 0), 6)
  return f"{number / 1000**power:.4g} {'kMGTPE'[power - 1] if power else ''}{unit}"


def _ms(seconds):
  return "unknown" if math.isnan(seconds) else f"{1e3 * seconds:.4g}"


def _grid(rows):
  """Columns wide enough, the first to the left and the others to the right."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return [
    "  ".join(
      cell.ljust(width) if place == 0 else cell.rjust(width)
      for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  ]
