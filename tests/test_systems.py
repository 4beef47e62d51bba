"""The table of systems: every row is whole, and states follow from evidence alone."""

import json
import math

import pytest

from repjax import systems

TABLE = systems.load()
METHOD = (0.80, 0.81, 0.82)  # mean 0.81, standard error 0.01 / sqrt(3)
ERROR = 0.01 / math.sqrt(3)


@pytest.fixture
def root(tmp_path):
  (tmp_path / "tests").mkdir()
  (tmp_path / "tests/test_x.py").write_text("def test_law():\n  pass\n\ndef helper():\n  pass\n")
  return tmp_path


def make_row(**changes):
  row = {
    "slug": "x",
    "title": "X",
    "short": "X",
    "family": "f",
    "tier": "A",
    "kind": "method",
    "idea": "An idea.",
    "api": ("json.dumps",),
    "tests": ("tests/test_x.py::test_law",),
    "results": "x.json",
    "method": "ours",
    "metric": "knn",
    "baseline": ("control",),
  }
  return systems.System(**(row | changes))


def write_results(root, ours=METHOD, control=(0.5,), **changes):
  runs = [
    {"method": method, "seed": seed, "metrics": {"knn": value}}
    for method, values in (("ours", ours), ("control", control))
    for seed, value in enumerate(values)
  ]
  results = {"command": "run", "commit": "c0ffee", "hardware": "a machine", "date": "", "data": ""}
  (root / "x.json").write_text(json.dumps(results | {"runs": runs} | changes))


def write_toml(path, **changes):
  row = dict.fromkeys(("slug", "title", "short", "family", "tier", "kind", "idea"), "x")
  lines = [f"{k} = {json.dumps(v)}" for k, v in (row | changes).items()]
  path.write_text("[[system]]\n" + "\n".join(lines) + "\n")
  return path


def test_table_has_every_paper_once():
  # The list of papers, and 17 methods that they build on.
  assert len(TABLE) == 401 + 17
  assert len({row.slug for row in TABLE}) == len(TABLE)
  assert list(TABLE) == sorted(TABLE, key=lambda row: (row.family, row.slug))


def test_every_api_in_the_table_imports():
  absent = [f"{r.slug}: {name}" for r in TABLE for name in r.api if not systems.imports(name)]
  assert not absent, "these names in systems.toml do not import:\n" + "\n".join(absent)


def test_every_test_in_the_table_exists():
  absent = [f"{r.slug}: {name}" for r in TABLE for name in r.tests if not systems.has_test(name)]
  assert not absent, "these tests in systems.toml do not exist:\n" + "\n".join(absent)


def test_every_file_in_the_table_exists():
  paths = [(r.slug, r.results) for r in TABLE if r.results]
  paths += [(r.slug, r.experiment.replace(".", "/") + ".py") for r in TABLE if r.experiment]
  absent = [f"{slug}: {path}" for slug, path in paths if not (systems.ROOT / path).is_file()]
  assert not absent, "these files in systems.toml do not exist:\n" + "\n".join(absent)


def test_systems_md_is_what_the_table_says():
  written = (systems.ROOT / "SYSTEMS.md").read_text()
  assert written == systems.markdown(TABLE), "run `python -m repjax.systems --write`"


def test_a_typed_state_is_refused(tmp_path):
  path = write_toml(tmp_path / "systems.toml", state="shown")
  with pytest.raises(ValueError, match=r"unknown keys \['state'\].*never typed"):
    systems.load(path)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"apis": ["json.dumps"]}, r"unknown keys \['apis'\]"),
    ({"api": "json.dumps"}, "api = 'json.dumps' is of the wrong type"),
    ({"year": "2021"}, "year = '2021' is of the wrong type"),
    ({"results": "x.json", "method": "ours"}, "needs method, metric and baseline"),
    ({"target": 0.5}, "target and tolerance come together"),
  ],
)
def test_a_malformed_row_is_refused_by_name(tmp_path, changes, message):
  with pytest.raises(ValueError, match=rf"systems.toml: x: .*{message}"):
    systems.load(write_toml(tmp_path / "systems.toml", **changes))


def test_a_slug_that_comes_twice_is_refused(tmp_path):
  path = write_toml(tmp_path / "systems.toml")
  path.write_text(path.read_text() * 2)
  with pytest.raises(ValueError, match="'x' is there twice"):
    systems.load(path)


def test_a_missing_table_says_where_it_lives(tmp_path):
  with pytest.raises(FileNotFoundError, match="source checkout"):
    systems.load(tmp_path / "systems.toml")


@pytest.mark.parametrize(
  "changes",
  [
    {"api": (), "tests": ()},
    {"tests": ()},
    {"api": ()},
    {"api": ("json.no_such_name",)},
    {"api": ("no_such_module.name",)},
    {"tests": ("tests/test_x.py::test_no_such_law",)},
    {"tests": ("tests/test_x.py::helper",)},
    {"tests": ("tests/test_no_such_file.py::test_law",)},
    {"tests": ("tests/test_x.py::test_law", "tests/test_x.py::test_no_such_law")},
  ],
)
def test_without_an_api_and_all_its_tests_a_row_is_planned(root, changes):
  write_results(root)
  assert systems.state(make_row(**changes), root) == "planned"


def test_without_a_result_a_row_is_core(root):
  assert systems.state(make_row(results=None), root) == "core"
  about = systems.evidence(make_row(), root)
  assert about.state == "core" and "x.json is missing" in about.remark


def test_a_result_beyond_the_noise_is_shown(root):
  write_results(root, control=(0.81 - 2 * ERROR - 1e-6,))
  assert systems.state(make_row(), root) == "shown"


def test_a_result_within_the_noise_is_recorded_as_negative(root):
  write_results(root, control=(0.81 - 2 * ERROR + 1e-6,))
  about = systems.evidence(make_row(), root)
  assert about.state == "core" and about.remark.startswith("shown false")


def test_the_noise_is_that_of_both_methods(root):
  gain = 2 * math.sqrt(2) * ERROR  # two standard errors of a difference of equal errors
  for shift, expected in ((1e-6, "shown"), (-1e-6, "core")):
    write_results(root, control=tuple(x - gain - shift for x in METHOD))
    assert systems.state(make_row(), root) == expected


def test_every_baseline_must_be_beaten(root):
  runs = [("ours", i, x) for i, x in enumerate(METHOD)] + [("weak", 0, 0.5), ("strong", 0, 0.9)]
  runs = [{"method": m, "seed": i, "metrics": {"knn": x}} for m, i, x in runs]
  write_results(root, runs=runs)
  assert systems.state(make_row(baseline=("weak",)), root) == "shown"
  assert systems.state(make_row(baseline=("weak", "strong")), root) == "core"


def test_fewer_than_three_seeds_are_not_shown(root):
  write_results(root, ours=METHOD[:2])
  assert systems.evidence(make_row(), root)[:2] == ("core", "ours has 2 seeds of at least 3")
  write_results(root, control=(0.5, 0.5))
  assert systems.evidence(make_row(), root)[:2] == ("core", "control has 2 seeds of at least 3")
  write_results(root, control=())
  assert systems.evidence(make_row(), root)[:2] == ("core", "control has 0 seeds of at least 3")


@pytest.mark.parametrize("name", ["command", "commit", "hardware"])
def test_a_result_that_nobody_can_rerun_is_not_shown(root, name):
  write_results(root, **{name: " "})
  assert systems.evidence(make_row(), root)[:2] == ("core", f"x.json has an empty {name}")


def test_a_result_that_is_not_a_number_is_not_shown(root):
  write_results(root, ours=(0.8, 0.81, math.nan))
  assert systems.state(make_row(), root) == "core"


def test_errors_must_be_below_their_baseline(root):
  write_results(root, control=(0.9,))
  assert systems.state(make_row(), root) == "core"
  assert systems.state(make_row(lower_is_better=True), root) == "shown"


def test_a_published_number_within_tolerance_is_matched(root):
  write_results(root)
  assert systems.state(make_row(target=0.83, tolerance=0.021), root) == "matched"
  about = systems.evidence(make_row(target=0.83, tolerance=0.019), root)
  assert about.state == "shown" and "not within 0.019 of 0.83" in about.remark


def test_a_negative_result_is_never_matched(root):
  write_results(root, control=(0.9,))
  assert systems.state(make_row(target=0.81, tolerance=0.1), root) == "core"


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"runs": [{"method": "ours", "seed": 0}]}, "KeyError: 'metrics'"),
    ({"commit": 3}, "commit is not a string"),
    ({"runs": [{"method": "ours", "seed": 0, "metrics": {}}] * 2}, "seed 0 twice"),
  ],
)
def test_a_malformed_result_is_refused_by_name(root, changes, message):
  write_results(root, **changes)
  with pytest.raises(ValueError, match=rf"x\.json: .*{message}"):
    systems.evidence(make_row(), root)


def test_filters_narrow_the_table(capsys):
  systems.main(["--family=ssl-masked", "--tier=A"])
  printed = capsys.readouterr().out.splitlines()
  expected = [r.slug for r in TABLE if (r.family, r.tier) == ("ssl-masked", "A")]
  assert [line.split()[0] for line in printed[1 : len(expected) + 1]] == expected
  assert printed[-1].startswith(f"{len(expected)} systems: ")


def test_one_row_is_printed_in_full(capsys):
  systems.main(["simmim"])
  printed = capsys.readouterr().out
  row = next(r for r in TABLE if r.slug == "simmim")
  for text in (row.title, row.family, *row.api, *row.tests, *row.idea.split()):
    assert text in printed


@pytest.mark.parametrize("argument", ["simim", "--family=ssl-maskd"])
def test_a_misspelt_name_is_told_its_neighbours(argument):
  with pytest.raises(SystemExit, match=r"not in systems\.toml; closest: (simmim|ssl-masked)"):
    systems.main([argument])
