"""The Hugging Face hub, by its own library: a small server stands for it on this machine."""

import hashlib
import http.server
import json
import pathlib
import runpy
import threading

import jax
import numpy as np
import pytest

from repjax.encoders.vit import Size
from repjax.pretrained import TIMM_VITS, from_config, load_encoder
from repjax.pretrained.load import download
from repjax.trees import write_state

constants = pytest.importorskip("huggingface_hub.constants")
ORACLES = pathlib.Path(__file__).parents[1] / "oracles"
FIXTURE = np.load(ORACLES / "pretrained.npz")
weights = runpy.run_path(str(ORACLES / "encoders.py"))["weights"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
  """Answers as the hub does; ``server.repositories`` holds the files by name."""

  def do_HEAD(self):
    self.do_GET()

  def do_GET(self):
    self.server.seen.append(self.path)
    path = self.path.partition("?")[0].strip("/").split("/")
    api = path[:2] == ["api", "models"]
    path = path[2:] if api else path
    name, rest = "/".join(path[:2]), path[2:]
    files = self.server.repositories.get(name)
    if files is None:
      self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
    elif api and rest[:1] == ["tree"]:
      listing = [
        {"type": "file", "path": file, "size": len(content), "oid": self.tag(content)}
        for file, content in files.items()
      ]
      self.answer(200, json.dumps(listing).encode())
    elif api:
      siblings = [{"rfilename": file} for file in files]
      about = {"id": name, "sha": COMMIT, "private": False, "siblings": siblings}
      self.answer(200, json.dumps(about).encode())
    elif rest[0] == "resolve" and rest[2] in files:
      content = files[rest[2]]
      self.answer(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{self.tag(content)}"'})
    else:
      self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})

  def answer(self, status, content, headers=()):
    self.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **dict(headers)}.items():
      self.send_header(name, value)
    self.end_headers()
    if self.command == "GET":
      self.wfile.write(content)

  @staticmethod
  def tag(content):
    return hashlib.sha1(content).hexdigest()

  def log_message(self, *args):
    pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
  """A server without repositories, which the library takes for the hub, and an empty cache."""
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
  server.repositories, server.seen = {}, []
  endpoint = f"http://127.0.0.1:{server.server_port}"
  # The library reads the environment once, when it is imported.
  monkeypatch.setattr(constants, "ENDPOINT", endpoint)
  template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
  monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
  monkeypatch.setenv("NO_PROXY", "127.0.0.1")
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  yield server
  stop(server)
  thread.join()


def stop(server):
  server.shutdown()
  server.server_close()


def state_of(case):
  shapes = json.loads(str(FIXTURE[f"{case}/shapes"]))
  return {name: weights(name, tuple(shape)) for name, shape in shapes.items()}


def as_file(state, folder):
  write_state(folder / "state.safetensors", state)
  return (folder / "state.safetensors").read_bytes()


def repository(folder):
  """What lies on the hub for a model of Hugging Face's, much of which is not wanted here."""
  return {
    "config.json": str(FIXTURE["hf/dinov2/config"]).encode(),
    "model.safetensors": as_file(state_of("hf/dinov2"), folder),
    "pytorch_model.bin": b"the same again",
    "README.md": b"a card",
  }


def same(found, wanted):
  jax.tree.map(np.testing.assert_array_equal, found.variables, wanted.variables)


def test_a_model_comes_from_the_hub_and_then_from_the_cache_without_it(hub, tmp_path):
  hub.repositories["some/model"] = files = repository(tmp_path)
  first = load_encoder("hf/some/model")
  config = json.loads(files["config.json"])
  assert first.encoder == from_config(config).encoder
  for name in ("config.json", "model.safetensors"):
    (tmp_path / name).write_bytes(files[name])
  same(first, load_encoder("hf/some/model", tmp_path))
  assert not [path for path in hub.seen if path.endswith((".bin", ".md"))]
  stop(hub)
  same(load_encoder("hf/some/model"), first)


def test_a_name_of_timm_s_comes_from_its_own_repositories(hub, tmp_path, monkeypatch):
  entry = TIMM_VITS["vit_base_patch14_dinov2"]
  tiny = entry._replace(size=Size(32, 2, 4, 128), patch=8, image=32)
  monkeypatch.setitem(TIMM_VITS, "tiny", tiny)
  file = as_file(state_of("timm/dinov2"), tmp_path)
  hub.repositories["timm/tiny.tag"] = {"model.safetensors": file, "config.json": b"{}"}
  same(load_encoder("timm/tiny.tag"), load_encoder("timm/tiny", tmp_path / "state.safetensors"))


@pytest.mark.parametrize(
  "files, said",
  [
    (None, r"no weights of some/model from the hub \(Repository Not Found.*weights="),
    ({"config.json": b"{}", "pytorch_model.bin": b""}, r"has no model.safetensors .*weights="),
  ],
)
def test_what_the_hub_does_not_have_is_said_with_the_way_out(hub, files, said):
  if files is not None:
    hub.repositories["some/model"] = files
  with pytest.raises(FileNotFoundError, match=said) as no:
    load_encoder("hf/some/model")
  assert "\n" not in str(no.value)


def test_without_a_network_the_way_out_is_a_file(hub):
  stop(hub)
  with pytest.raises(
    FileNotFoundError, match=r"no weights of some/model .*Connect.*weights="
  ) as no:
    download("some/model")
  assert "\n" not in str(no.value)
