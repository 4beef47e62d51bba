"""Notebooks: committed bare, and run from the first cell to the last."""

import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))
PLAIN = {
  "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
  "language_info": {"name": "python"},
}

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
  nbformat = pytest.importorskip("nbformat", reason="pip install -e '.[test]' for notebooks")
  return nbformat.read(path, as_version=4)


def code(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_a_notebook_is_committed_without_what_a_run_leaves(path):
  notebook = read(path)
  assert notebook.metadata == PLAIN
  for cell in notebook.cells:
    assert cell.metadata == {}, cell.source
  for cell in code(notebook):
    assert cell.outputs == [] and cell.execution_count is None, cell.source


def test_a_notebook_installs_what_it_does_not_find(path):
  first = code(read(path))[0].source
  urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
  assert 'find_spec("repjax") is None' in first
  assert f"git+{urls['Documentation']}" in first


@pytest.mark.thorough  # a minute of kernels that start and compile
def test_a_notebook_runs_and_warns_of_nothing(path, tmp_path, monkeypatch):
  nbclient = pytest.importorskip("nbclient", reason="pip install -e '.[test]' for notebooks")
  # What Jupyter keeps stays in the test's folder, and no reader's settings come in.
  for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
    monkeypatch.setenv(variable, str(tmp_path))
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
  notebook = read(path)
  shortened = 0
  for cell in code(notebook):
    cell.source, count = re.subn(r"^steps = \d+$", "steps = 5", cell.source, flags=re.MULTILINE)
    shortened += count
  assert shortened == 1, "expected one line `steps = NUMBER`, by which a test shortens the training"

  # The working directory is on the kernel's path, so that it runs this checkout.
  place = {"metadata": {"path": str(ROOT)}}
  nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=place).execute()
  printed = "".join(
    output.text for cell in code(notebook) for output in cell.outputs if "text" in output
  )
  assert not re.search("warn|deprecat", printed, re.IGNORECASE), printed
