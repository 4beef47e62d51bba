"""The report: a page that parses, stands alone and escapes; pictures that keep their laws."""

import base64
import html.parser
import io
import itertools
import re
import sys

import numpy as np
import pytest
import sklearn.metrics
from PIL import Image

from repjax.evaluate import pictures
from repjax.evaluate.matrices import Matrix, class_table, confusion_matrix
from repjax.evaluate.report import Report, write_report

EVIL = "<script>alert('$x^$')</script>"  # and no formula either
VOID = {"meta", "img", "link", "br", "input"}


class Page(html.parser.HTMLParser):
  """Checks that tags balance, and collects what a test asks for."""

  def __init__(self, text):
    super().__init__()
    self.open, self.text, self.tags, self.attributes = [], "", [], []
    self.feed(text)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attrs):
    if tag not in VOID:
      self.open.append(tag)
    self.tags.append(tag)
    self.attributes += [(tag, name, value) for name, value in attrs]

  def handle_startendtag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += [(tag, name, value) for name, value in attrs]

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if not {"style", "script"} & set(self.open):
      self.text += data


def full_report(size=8, channels=1):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (24, size, size, channels), np.uint8)
  labels = np.arange(24) % 4 - 1  # unlabelled, 0, 1, 2
  found = rng.integers(0, 24, (3, 5))
  confused = confusion_matrix(rng.integers(0, 3, 24), labels, ("_zero", "数", EVIL))
  curve = np.arange(4.0), np.array([0.1, 0.5, 0.6, 0.7])
  return Report(
    title=f"A run {EVIL}",
    summary=f"It went well {EVIL}.",
    command=f"python -m experiments.simclr --data={EVIL}",
    flags={"steps": 5, "data": EVIL, "seed": 0},
    defaults={"steps": 1, "data": "digits", "seed": 0},
    commit="0123456789abcdef",
    hardware="two cores",
    versions={"jax": "0.10.2"},
    speed={"img/s": 1234.5, "share of peak": "38 %"},
    history=[
      {"step": s, "loss": 3.0 / s, "learning_rate": 1e-3, "note": EVIL, "eval/knn_20": s / 10}
      for s in range(1, 10)
    ]
    + [{"step": 10, "loss": float("nan"), "eval/knn_20": None}],
    table={
      "simclr": {"1-shot": 0.7714, "1-shot_stderr": 0.0123, "knn_20": 0.9051},
      "raw pixels": {"1-shot": 0.6452, "knn_20": 0.9587},
      "untrained": {"1-shot": float("nan")},
    },
    classes=("_zero", "数", EVIL),
    embedding=pictures.EmbeddingMap(rng.normal(size=(24, 2)), labels, images),
    similarity={f"CKA {EVIL}": Matrix(rng.random((2, 3)), ["a", EVIL], list("cde"), "a", "b")},
    spectra={"share of the variance": {"simclr": curve, EVIL: curve}},
    dimensions={"accuracy": {"simclr": curve}},
    confusion={"simclr": confused},
    neighbours=pictures.Neighbours(
      images[:3], labels[:3], images, labels, {"simclr": found, "raw pixels": found[:, :2]}
    ),
    patches=pictures.PatchMaps(images[:4], rng.normal(size=(4, 2, 2, 6))),
    reconstructions=pictures.Reconstructions(*(images[:4] / 255.0,) * 3),
    next_command="python -m experiments.evaluate --workdir=somewhere",
  )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  path = tmp_path_factory.mktemp("run") / "deep" / "er"
  return write_report(path, full_report())


def test_the_page_parses_and_states_the_numbers(written):
  assert written.name == "report.html"
  text = Page(written.read_text()).text
  for expected in ("0.771", "± 0.012", "0.959", "1,234", "--steps", "0123456789ab", "two cores"):
    assert expected in text
  assert "nan" not in text


def test_controls_come_first_and_the_best_of_a_column_is_marked(written):
  page = written.read_text()
  assert re.findall(r'<th scope="row">(.*?)</th>', page)[:3] == [
    "raw pixels",
    "untrained",
    "simclr",
  ]
  assert re.findall(r'<strong class="best">(.*?)</strong>', page)[:2] == ["0.959", "0.771"]


def test_flags_that_differ_come_before_the_others(written):
  text = Page(written.read_text()).text
  start = text.index("Flags that differ")
  assert text.index("--data", start) < text.index("--steps", start) < text.index("--seed", start)
  assert "1 flags at their defaults" not in text and "1 flag at its default" in text


def test_the_page_asks_for_nothing_outside_itself(written):
  page = written.read_text()
  links = [v for _, name, v in Page(page).attributes if name in ("src", "href", "xlink:href")]
  assert links and all(v.startswith(("data:", "#")) for v in links)
  assert not re.search(r"https?://|@import|url\((?!data:)", page)


def test_what_comes_from_outside_is_text(written):
  page = written.read_text()
  parsed = Page(page)
  assert EVIL not in page and "innerHTML" not in page
  assert parsed.tags.count("script") == 1
  assert parsed.text.count(EVIL) >= 5  # title, summary, command, flag, class


def test_every_image_has_a_text_and_small_ones_keep_their_pixels(written):
  tags = re.findall(r"<img [^>]*>", written.read_text())
  assert tags and all(re.search(r'alt="[^"]+"', t) and 'class="pixelated"' in t for t in tags)


def test_headings_descend_one_level_at_a_time(written):
  levels = [int(t[1]) for t in Page(written.read_text()).tags if re.fullmatch(r"h\d", t)]
  assert levels[0] == 1 and levels.count(1) == 1
  assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_figures_open_and_show_something(written):
  figures = sorted((written.parent / "figures").glob("*"))
  names = ["classes", "curves", "dimensions", "map", "neighbours", "patches", "reconstructions"]
  names += ["similarity", "spectra"]
  assert [f.name for f in figures] == [f"{n}.png" for n in names]
  for figure in figures:
    image = np.asarray(Image.open(figure).convert("RGB"), np.float64)
    assert image.std() > 5 and len(np.unique(image)) > 10


def test_a_report_is_a_function_of_what_it_is_given(written, tmp_path):
  again = write_report(tmp_path / "other.html", full_report())
  assert again == tmp_path / "other.html"
  assert again.read_bytes() == written.read_bytes()
  assert sorted(p.name for p in tmp_path.iterdir()) == ["figures", "other.html"]  # no leftovers
  for figure in (tmp_path / "figures").iterdir():
    assert figure.read_bytes() == (written.parent / "figures" / figure.name).read_bytes()


def test_missing_parts_leave_no_trace(tmp_path):
  whole = full_report()
  bare = Page(write_report(tmp_path, Report("Bare")).read_text())
  assert [t for t in bare.tags if re.fullmatch(r"h\d|section|nav|table|figure|pre", t)] == ["h1"]
  assert not (tmp_path / "figures").exists()
  for name, heading in (("table", "Results"), ("history", "Training"), ("speed", "Speed")):
    only = Report("One", **{name: getattr(whole, name)})
    page = Page(write_report(tmp_path, only, figures=False).read_text())
    assert page.tags.count("h2") == page.tags.count("section") == 1 and heading in page.text


def test_figures_of_an_earlier_report_go_and_those_of_others_stay(tmp_path):
  write_report(tmp_path, full_report())
  (tmp_path / "figures" / "mine.png").write_bytes(b"kept")
  names = lambda: sorted(p.name for p in (tmp_path / "figures").iterdir())
  write_report(tmp_path, full_report()._replace(reconstructions=None, history=()))
  kept = ["classes", "dimensions", "map", "mine", "neighbours", "patches", "similarity", "spectra"]
  assert names() == [f"{name}.png" for name in kept]
  write_report(tmp_path, full_report(), figures=False)
  assert names() == ["mine.png"]


def test_an_unwritable_path_is_one_line_that_names_it(tmp_path):
  (tmp_path / "file").write_text("in the way")
  with pytest.raises(OSError, match=r"cannot write .*file.*report\.html.*; choose") as caught:
    write_report(tmp_path / "file" / "run", Report("Nowhere"))
  assert "\n" not in str(caught.value)


def test_absent_matplotlib_names_the_extra_and_figures_can_be_left_out(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
  with pytest.raises(ModuleNotFoundError, match=r"pip install 'repjax\[plots\]'"):
    write_report(tmp_path, full_report())
  assert not list(tmp_path.iterdir())
  assert write_report(tmp_path, full_report(), figures=False).exists()


def test_parts_that_do_not_fit_name_their_sizes(tmp_path):
  images = np.zeros((3, 8, 8, 1), np.uint8)
  part = pictures.EmbeddingMap(np.zeros((3, 2)), np.zeros(2, int), images)
  with pytest.raises(ValueError, match=r"embedding.*'points': 3, 'labels': 2"):
    write_report(tmp_path, Report("Odd", embedding=part))


def test_nearest_neighbours_are_those_of_a_loop():
  rng = np.random.default_rng(1)
  query, bank = rng.normal(size=(7, 5)), rng.normal(size=(40, 5))
  for row, found in zip(query, pictures.nearest_neighbours(query, bank, 6), strict=True):
    cosines = [row @ b / np.linalg.norm(row) / np.linalg.norm(b) for b in bank]
    assert list(found) == sorted(range(40), key=lambda i: -cosines[i])[:6]
  with pytest.raises(ValueError, match=r"count=41 .* 40"):
    pictures.nearest_neighbours(query, bank, 41)


def test_neighbours_of_an_unlabelled_query_are_never_of_its_class():
  images, labels = np.zeros((3, 2, 2, 1), np.uint8), np.array([-1, 0, 0])
  part = pictures.Neighbours(images, labels, images, labels, {"x": np.array([[0], [1], [0]])})
  assert pictures.same_class(part)["x"].tolist() == [[False], [True], [False]]


def test_patch_colours_are_those_of_the_components():
  tokens = np.random.default_rng(2).normal(size=(3, 4, 5, 6)) * np.arange(1, 7)
  tokens[1, 0, 0] = tokens[2, 3, 4]
  colours = pictures.patch_colours(tokens)
  np.testing.assert_allclose(colours[1, 0, 0], colours[2, 3, 4], atol=1e-9)
  assert colours.min() == 0 and colours.max() == 1

  flat = tokens.reshape(-1, 6) - tokens.reshape(-1, 6).mean(0)
  _, directions = np.linalg.eigh(flat.T @ flat)
  for channel in range(3):
    direction = directions[:, -1 - channel]
    part = flat @ (direction * np.sign(direction[np.abs(direction).argmax()]))
    low, high = np.percentile(part, [2, 98])
    ours = colours.reshape(-1, 3)[:, channel]
    np.testing.assert_allclose(ours, np.clip((part - low) / (high - low), 0, 1), atol=1e-9)


def test_patch_colours_ignore_a_shift_a_scale_and_the_order_of_images():
  tokens = np.random.default_rng(3).normal(size=(3, 4, 4, 6)) * np.arange(1, 7)
  colours = pictures.patch_colours(tokens)
  np.testing.assert_allclose(pictures.patch_colours(7 * tokens + 3), colours, atol=1e-9)
  np.testing.assert_allclose(pictures.patch_colours(tokens[::-1]), colours[::-1], atol=1e-9)


def test_directions_without_variance_are_grey():
  assert (pictures.patch_colours(np.ones((2, 3, 3, 8))) == 0.5).all()
  line = np.linspace(0, 1, 18).reshape(2, 3, 3, 1) * np.ones(8)
  colours = pictures.patch_colours(line)
  assert np.ptp(colours[..., 0]) == 1 and (colours[..., 1:] == 0.5).all()


def test_a_map_is_one_for_a_seed_and_keeps_clusters_together():
  rng = np.random.default_rng(4)
  labels = np.repeat(np.arange(3), 20)
  features = 5 * np.eye(8)[labels] + rng.normal(size=(60, 8))
  points = pictures.project(features, seed=0)
  np.testing.assert_array_equal(points, pictures.project(features, seed=0))
  distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
  np.fill_diagonal(distance, np.inf)
  assert np.mean(labels[distance.argmin(1)] == labels) > 0.95


@pytest.mark.parametrize("rows", [1, 2, 5, 30])
def test_a_map_of_few_or_equal_rows_is_finite(rows):
  for features in (np.ones((rows, 4)), np.zeros((rows, 4)), np.eye(rows, 40)):
    points = pictures.project(features, seed=0)
    assert points.shape == (rows, 2) and np.isfinite(points).all()


def test_a_map_says_what_it_refuses():
  with pytest.raises(ValueError, match=r"1001 .* at most 1000"):
    pictures.project(np.random.default_rng(0).normal(size=(1001, 3)), seed=0)
  with pytest.raises(ValueError, match="'umap'; choose 'tsne' or 'pca'"):
    pictures.project(np.ones((3, 3)), seed=0, method="umap")
  with pytest.raises(ValueError, match="2 of 9 feature values are not finite"):
    pictures.principal_components([[np.nan, 1, 2], [0, np.inf, 0], [0, 0, 0]], 2)


def test_the_atlas_holds_each_image_at_its_place():
  images = np.random.default_rng(5).integers(0, 256, (7, 3, 4, 3), np.uint8)
  sheet, columns, rows = pictures.atlas(images)
  assert (columns, rows) == (3, 3)
  for i, image in enumerate(images):
    row, column = divmod(i, columns)
    np.testing.assert_array_equal(sheet[row * 3 :, column * 4 :][:3, :4], image)
  large, columns, rows = pictures.atlas(np.full((2, 200, 100, 3), 9, np.uint8))
  assert large.shape == (64 * rows, 32 * columns, 3) and (large == 9).all()


def test_a_data_uri_gives_small_images_back_exactly():
  image = np.random.default_rng(6).integers(0, 256, (32, 16, 3), np.uint8)
  encoded = pictures.data_uri(image).removeprefix("data:image/png;base64,")
  np.testing.assert_array_equal(Image.open(io.BytesIO(base64.b64decode(encoded))), image)


def test_floats_and_grey_become_the_bytes_of_a_screen():
  grey = np.array([0, 51, 255], np.uint8).reshape(1, 1, 3, 1)
  expected = np.repeat(grey, 3, -1)
  np.testing.assert_array_equal(pictures.pixels(grey), expected)
  np.testing.assert_array_equal(pictures.pixels(grey / 255.0), expected)
  extremes = np.array([-1, np.nan, 2.0]).reshape(1, 1, 3, 1)
  assert pictures.pixels(extremes)[0, 0, :, 0].tolist() == [0, 0, 255]
  with pytest.raises(ValueError, match=r"1 or 3.*\(1, 2, 2, 4\)"):
    pictures.pixels(np.zeros((1, 2, 2, 4)))


def test_curves_keep_finite_numbers_in_panels_of_one_scale():
  history = [
    {"step": 0, "grad_norm": 2.0, "eval/a": 0.5, "eval/b": 1.0, "eval/loss": 3.0, "loss": 4},
    {"step": 5, "grad_norm": float("inf"), "eval/a": None, "text": "no", "loss": 2, "flag": True},
  ]
  panels = pictures.curves(history)
  assert list(panels) == ["loss", "eval", "eval/loss", "grad_norm"]
  assert list(panels["eval"]) == ["a", "b"]
  np.testing.assert_array_equal(panels["loss"]["loss"], [[0, 5], [4, 2]])
  np.testing.assert_array_equal(panels["grad_norm"]["grad_norm"], [[0], [2]])


def test_thinning_keeps_the_mean_and_the_count():
  steps = np.arange(1000.0)
  thin, values = pictures.thinned(steps, steps**2, 100)
  assert len(thin) == len(values) == 100
  np.testing.assert_allclose([thin.mean(), values.mean()], [steps.mean(), (steps**2).mean()])


def test_page_and_figures_share_their_colours(written):
  styled = re.findall(r"--k\d: (#\w+);", written.read_text())
  assert tuple(styled[: len(pictures.COLOURS)]) == pictures.COLOURS


def test_confusion_counts_equal_scikit_learns():
  rng = np.random.default_rng(0)
  label, predicted = rng.integers(-1, 4, 200), rng.integers(0, 4, 200)
  matrix = confusion_matrix(predicted, label)
  known = label >= 0
  theirs = sklearn.metrics.confusion_matrix(label[known], predicted[known], normalize="true")
  np.testing.assert_allclose(matrix.values, theirs)
  recalls = {name: row["a"] for name, row in class_table({"a": matrix}).items()}
  np.testing.assert_allclose([recalls[str(i)] for i in range(4)], np.diagonal(theirs))


def test_a_class_without_examples_has_no_share():
  matrix = confusion_matrix(np.array([0, 2]), np.array([0, 0]), "abc")
  assert np.isnan(matrix.values[1:]).all() and list(class_table({"x": matrix})) == ["a"]
  with pytest.raises(ValueError, match="one of them >= 0"):
    confusion_matrix(np.array([0]), np.array([-1]))
