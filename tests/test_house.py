"""House rules: who may call whom, what an import costs, what is documented, what is not done."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = sorted((ROOT / "repjax").rglob("*.py"))
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.py"))
SOURCES = sorted(
  path
  for room in ("repjax", "experiments", "tests", "benchmarks", "colabs")
  for path in (ROOT / room).rglob("*.py")
)

# A room may import itself, repjax/arrays.py and these.
LEAVES = {"losses", "encoders", "augment", "codes", "measure", "trees", "data"}
METHOD_PARTS = {"losses", "encoders", "augment", "heads", "codes", "trees", "select"}
MAY_IMPORT = {
  **{room: set() for room in LEAVES},
  **dict.fromkeys(("learners", "adapt", "federated", "generate", "dense"), METHOD_PARTS),
  **{room: {"measure", "losses", "trees"} for room in ("heads", "select")},
  "evaluate": {"heads", "measure"},
  "pretrained": {"encoders", "trees"},
  "train": set(),
}
# Single modules that a room may import from elsewhere: train knows the Learner type and no method.
MAY_IMPORT_MODULE = {"train": {"repjax.learners.learner"}}
# What learners share; every other file in the room is one method.
LEARNER_PARTS = {
  f"repjax.learners.{n}"
  for n in (
    "agglomerate",
    "context",
    "freeze",
    "hiding",
    "learner",
    "masking",
    "network",
    "queue",
    "spread",
    "start",
    "teacher",
    "views",
  )
}
# What losses share; every other file in the room holds losses alone.
LOSS_PARTS = {f"{n}.py" for n in ("classes", "labelled", "layout", "moments", "pairs", "partners")}
EXPERIMENT_PARTS = {
  "experiments",
  "experiments.claim",
  "experiments.contest",
  "experiments.descent",
  "experiments.frozen",
  "experiments.measured",
  "experiments.methods",
  "experiments.outcome",
  "experiments.pretrain",
  "experiments.reconstructions",
  "experiments.records",
  "experiments.restored",
  "experiments.setup",
  "experiments.views",
}

HEAVY = (
  "safetensors",
  "huggingface_hub",
  "tensorflow",
  "tensorflow_datasets",
  "orbax",
  "grain",
  "matplotlib",
  "sklearn",
  "torch",
)
ROOMS = [f"repjax.{room}" for room in sorted(MAY_IMPORT) if (ROOT / "repjax" / room).is_dir()]
PROBE = """
import importlib, sys, time
heavy, *names = sys.argv[1:]
start = time.perf_counter()
import jax
middle = time.perf_counter()
for name in names:
  importlib.import_module(name)
print(f"jax {middle - start:.2f} s, then {names} {time.perf_counter() - middle:.2f} s")
# Refused once devices are there, which take memory and forbid several processes.
jax.config.update("jax_num_cpu_devices", 2)
loaded = [name for name in heavy.split() if name in sys.modules]
sys.exit(f"imported at the top level: {loaded}" if loaded else 0)
"""


def tree(path):
  return ast.parse(path.read_text(), str(path))


def place(path, node=None):
  return f"{path.relative_to(ROOT)}" + (f":{node.lineno}" if node else "")


def module_of(path):
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in PACKAGE + EXPERIMENTS}


def imported(path):
  """Yields ``(node, module)`` of each import of our own code, those inside functions too."""
  for node in ast.walk(tree(path)):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.level:
      yield node, "a relative import"
    elif isinstance(node, ast.ImportFrom):
      below = [f"{node.module}.{alias.name}" for alias in node.names]
      names = [name if name in MODULES else node.module for name in below]
    for name in names:
      if name.split(".")[0] in ("repjax", "experiments", "tests", "benchmarks"):
        yield node, name


def allowed(source, target):
  """Whether one of our modules may import another."""
  if target == "repjax.arrays":
    return True
  if not target.startswith("repjax.") or source in ("repjax", "repjax.arrays", "repjax.systems"):
    return False
  room, other = source.split(".")[1], target.split(".")[1]
  if room == "learners" == other:
    return source == "repjax.learners" or target in LEARNER_PARTS
  return (
    room == other
    or other in MAY_IMPORT.get(room, set())
    or target in MAY_IMPORT_MODULE.get(room, set())
  )


def public(path):
  """Public functions and classes that a module defines at its top level."""
  kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
  return [n for n in tree(path).body if isinstance(n, kinds) and not n.name.startswith("_")]


def takes_arrays(node):
  arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
  arguments += [x for x in (node.args.vararg, node.args.kwarg) if x]
  notes = [ast.unparse(x.annotation) for x in arguments if x.annotation]
  return any(re.search(r"\b(Array|ArrayLike|ndarray)\b(?!\w)", note) for note in notes)


def report(rule, offenders):
  assert not offenders, f"{rule}\n  " + "\n  ".join(offenders)


def test_rooms_import_only_what_lies_below_them():
  offenders = [
    f"{place(path, node)} imports {target}"
    for path in PACKAGE
    for node, target in imported(path)
    if not allowed(module_of(path), target)
  ]
  report("a room imports upward or sideways (see the rooms in CONTRIBUTING.md):", offenders)


def test_every_room_has_its_place_in_the_order():
  rooms = {module_of(p).split(".")[1] for p in PACKAGE if p.parent != ROOT / "repjax"}
  report("rooms that MAY_IMPORT does not know:", sorted(rooms - set(MAY_IMPORT)))
  files = {p.name for p in PACKAGE if p.parent == ROOT / "repjax"}
  bare = [name for name in rooms if not (ROOT / "repjax" / name / "__init__.py").is_file()]
  report("rooms without an __init__.py are left out of an installation:", bare)
  report("modules outside any room:", sorted(files - {"__init__.py", "arrays.py", "systems.py"}))


def test_experiments_import_rooms_and_not_one_another():
  offenders = [
    f"{place(path, node)} imports {target}"
    for path in EXPERIMENTS
    for node, target in imported(path)
    if not target.startswith("repjax.") and target not in EXPERIMENT_PARTS
  ]
  report("what two experiments want belongs in a room of repjax:", offenders)


@pytest.mark.parametrize("names", [["repjax"], ["repjax", *ROOMS]], ids=["package", "rooms"])
def test_importing_stays_light_and_warns_of_nothing(names):
  command = [sys.executable, "-W", "error", "-c", PROBE, " ".join(HEAVY), *names]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
  print(done.stdout)
  assert done.returncode == 0, done.stderr[-2000:]


def test_importing_launchers_starts_no_device():
  names = [f"experiments.{path.stem}" for path in EXPERIMENTS]
  command = [sys.executable, "-c", PROBE, "", *names]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr[-2000:]


def test_public_names_are_documented():
  offenders = [
    f"{place(path, node)} {node.name}"
    for path in PACKAGE
    for node in public(path)
    if not ast.get_docstring(node)
  ]
  report("public names without a docstring:", offenders)


def test_functions_of_arrays_state_arguments_and_result():
  offenders = []
  for path in PACKAGE:
    for node in public(path):
      if isinstance(node, ast.ClassDef) or not takes_arrays(node):
        continue
      text = ast.get_docstring(node) or ""
      parts = ["Args:"] if node.returns and ast.unparse(node.returns) == "None" else []
      text = text.replace("Yields:", "Returns:")
      missing = [part for part in parts or ["Args:", "Returns:"] if part not in text]
      if missing:
        offenders.append(f"{place(path, node)} {node.name} lacks {', '.join(missing)}")
  report("functions of arrays without these docstring sections:", offenders)


def test_losses_state_shapes_and_sources():
  offenders = []
  for path in sorted((ROOT / "repjax/losses").glob("*.py")):
    for node in public(path) if path.name not in LOSS_PARTS else ():
      text = ast.get_docstring(node) or ""
      source = text.partition("References:")[2]
      needs = {
        "a shape ``[batch": "``[batch" in text,
        "Returns:": "Returns:" in text,
        "References:": bool(source),
        "a link": re.search(r"https?://", source),
        "a year": re.search(r"\b(19|20)\d\d\b", re.sub(r"https?://\S+", "", source)),
      }
      missing = [name for name, there in needs.items() if not there]
      if missing:
        offenders.append(f"{place(path, node)} {node.name} lacks {', '.join(missing)}")
  report("losses whose docstrings are not enough to use them by:", offenders)


def test_no_deprecated_calls():
  pattern = re.compile(r"jax\.tree_map|experimental\.pjit|experimental\.shard_map|with\s+mesh:")
  offenders = [
    f"{place(path)}:{number} {line.strip()}"
    for path in SOURCES
    for number, line in enumerate(path.read_text().splitlines(), 1)
    if pattern.search(line)
  ]
  report("deprecated calls; use jax.tree.map, jax.jit with shardings, jax.shard_map:", offenders)


def test_files_are_named_for_what_they_hold():
  vague = re.compile(r"(test_)?(utils?|helpers?|common|misc|base|managers?)")
  report("these names say nothing:", [place(p) for p in SOURCES if vague.fullmatch(p.stem)])


def test_files_hold_one_idea():
  lengths = {path: len(path.read_text().splitlines()) for path in SOURCES}
  report("files over 500 lines:", [f"{place(p)}: {n}" for p, n in lengths.items() if n > 500])


def test_meshes_are_built_in_one_place():
  offenders = [
    f"{place(path, node)} {ast.unparse(node.func)}"
    for path in PACKAGE + EXPERIMENTS
    if path != ROOT / "repjax/train/mesh.py"
    for node in ast.walk(tree(path))
    if isinstance(node, ast.Call)
    and ast.unparse(node.func) in ("Mesh", "jax.make_mesh", "jax.sharding.Mesh", "sharding.Mesh")
  ]
  report("meshes are built in repjax/train/mesh.py, where their axes are made Auto:", offenders)


def test_nothing_is_unpickled():
  offenders = []
  for path in PACKAGE + EXPERIMENTS:
    for node in ast.walk(tree(path)):
      names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
      names += [node.module] if isinstance(node, ast.ImportFrom) else []
      allows = isinstance(node, ast.keyword) and node.arg == "allow_pickle"
      if "pickle" in names or (allows and ast.unparse(node.value) != "False"):
        offenders.append(place(path, node))
  report("pickles can run code:", offenders)


def test_every_flag_is_read():
  defined, read = [], {}
  for path in PACKAGE + EXPERIMENTS:
    read[path] = set()
    nodes = list(ast.walk(tree(path)))
    flags = {id(n): n.args[0].value for n in nodes if is_flag(n)}
    defined += [(path, n, flags[id(n)]) for n in nodes if id(n) in flags]
    holders = {ast.unparse(n.targets[0]): flags[id(n.value)] for n in nodes if holds(n, flags)}
    settings = {n.arg for n in nodes if isinstance(n, ast.arg) and of_settings(n)}
    for node in nodes:
      if isinstance(node, ast.Attribute):
        owner = ast.unparse(node.value)
        if owner in settings or owner.split(".")[-1] in ("FLAGS", "settings"):
          read[path].add(node.attr)
        elif node.attr == "value" and owner in holders:
          read[path].add(holders[owner])
  shared = {path for path in read if path in PACKAGE or module_of(path) in EXPERIMENT_PARTS}
  offenders = [
    f"{place(path, node)} --{name}"
    for path, node, name in defined
    # One launcher's flag is not read by another launcher.
    if not any(name in read[p] for p in (read if path in shared else shared | {path}))
  ]
  report("flags that nothing reads:", offenders)


def is_flag(node):
  """Whether a node is ``flags.DEFINE_x("name", ...)``."""
  return (
    isinstance(node, ast.Call)
    and ast.unparse(node.func).startswith("flags.DEFINE_")
    and isinstance(node.args[0], ast.Constant)
  )


def holds(node, flags):
  return isinstance(node, ast.Assign) and id(node.value) in flags


def of_settings(argument):
  """Whether a function's argument carries the flags, as `repjax.train.launch.Settings`."""
  return argument.annotation and ast.unparse(argument.annotation).split(".")[-1] == "Settings"
