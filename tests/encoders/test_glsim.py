"""GLSim: the official code's arithmetic, boxes and crops by their definitions."""

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_names
from torch_names import ORACLES, convert, weights

from repjax.encoders import GLSim, ViT, box_of_best, global_local_similarity, zoom
from repjax.encoders.transformer import Block, norm

FIXTURE = np.load(ORACLES / "glsim.npz")

RENAMES = [
  (r"^class_token", "vit.class_token"),
  (r"positional_embedding\.pos_embedding", "vit.positions"),
  (r"encoder\.blocks\.(\d+)", r"vit.block_\1"),
  (r"aggregator\.blocks\.(\d+)", r"mix_\1"),
  (r"encoder_norm", "vit.norm"),
  (r"aggregator_norm", "norm"),
  (r"patch_embedding", "vit.patch"),
  (r"attn\.proj_q", "attention.query"),
  (r"attn\.proj_k", "attention.key"),
  (r"attn\.proj_v", "attention.value"),
  (r"\.proj\.", ".attention.out."),
  (r"norm(\d)\.", r"norm_\1."),
  (r"pwff\.fc1", "mlp.up"),
  (r"pwff\.fc2", "mlp.down"),
]


def params_from_official(state):
  """The official ViTGLSim's state, without classifier, as parameters of ours."""
  params = convert(state, RENAMES)["params"]
  params["vit"]["patch"] = torch_names.flat_patch(params["vit"]["patch"])
  return params


def close(x, y, tolerance=1e-5):
  np.testing.assert_allclose(x, y, tolerance, tolerance)


def tiny(**options):
  shape = {"patch_size": 4, "dim": 16, "depth": 1, "heads": 2, "pool": "cls"}
  return ViT(**(shape | options))


def test_equals_the_official_code_with_its_weights():
  params = params_from_official(torch_names.drawn(str(FIXTURE["glsim/shapes"])))
  image = weights("image", (4, 32, 32, 3))
  vit = tiny(dim=128, positions="learned")

  def crop(params):
    features = vit.apply({"params": params["vit"]}, image)
    saliency = global_local_similarity(features.pooled, features.tokens)
    return zoom(image, 4 * box_of_best(saliency, (8, 8), 3))

  close(jax.jit(crop)(params), FIXTURE["glsim/crops"])
  features = jax.jit(GLSim(vit, top=3).apply)({"params": params}, image)
  close(features.pooled, FIXTURE["glsim/pooled"])


@pytest.mark.parametrize("top", [1, 2, 6])
def test_the_box_runs_from_the_first_to_the_last_row_and_column_of_the_best(top):
  saliency = np.random.default_rng(0).normal(size=(20, 3 * 5))
  for row, box in zip(saliency, box_of_best(jnp.asarray(saliency), (3, 5), top), strict=True):
    places = sorted(range(15), key=lambda i: -row[i])[:top]
    y, x = zip(*(divmod(i, 5) for i in places), strict=True)
    np.testing.assert_array_equal(
      box, [min(y), min(x), max(max(y), min(y) + 1), max(max(x), min(x) + 1)]
    )


def test_similarity_is_the_cosine():
  whole, patches = weights("token", (2, 8)), weights("image", (2, 5, 8))
  length = lambda x: np.linalg.norm(x.astype(np.float64), axis=-1)
  expected = np.einsum("bd,bnd->bn", whole, patches) / length(whole)[:, None] / length(patches)
  close(global_local_similarity(whole, patches), expected)


def test_zooming_interpolates_between_corner_pixels():
  image = weights("image", (2, 6, 9, 3))
  box = np.array([[1, 2, 4, 8], [5, 0, 6, 3]])
  for one, (top, left, bottom, right), zoomed in zip(
    image, box, zoom(image, jnp.asarray(box)), strict=True
  ):
    for y, x in ((0, 0), (5, 8), (2, 7), (3, 1)):
      row = top + y * (bottom - 1 - top) / 5
      column = left + x * (right - 1 - left) / 8
      rows = [
        np.interp(column, np.arange(9), line) for line in one.transpose(2, 0, 1).reshape(-1, 9)
      ]
      lines = np.reshape(rows, (3, 6))
      close(zoomed[y, x], [np.interp(row, np.arange(6), line) for line in lines])


def test_zooming_into_everything_changes_nothing():
  image = weights("image", (1, 6, 9, 3))
  close(zoom(image, jnp.asarray([[0, 0, 6, 9]])), image, 1e-6)


def test_a_second_look_at_everything_finds_the_same_again():
  image = weights("image", (2, 8, 12, 3))
  everything = lambda features, grid, top: jnp.array([[0, 0, *grid]] * len(features.pooled))
  module = GLSim(tiny(), 2, look=everything)
  params = drawn.of_module(module, image)
  once = tiny().apply({"params": params["params"]["vit"]}, image).pooled

  def mixed(params):
    x = Block(2, 64).apply({"params": params["mix_0"]}, jnp.stack([once, once], 1))
    return norm(jnp.float32, None).apply({"params": params["norm"]}, x)[:, 0]

  close(jax.jit(module.apply)(params, image).pooled, jax.jit(mixed)(params["params"]))


@pytest.mark.thorough
def test_gradient_in_bfloat16_is_finite():
  module = GLSim(tiny(dtype=jnp.bfloat16), top=2)
  image = weights("image", (2, 8, 8, 3))
  params = drawn.of_module(module, image)
  loss = lambda params: jnp.sum(module.apply(params, image).pooled.astype(jnp.float32) ** 3)
  grads = jax.tree.leaves(jax.jit(jax.grad(loss))(params))
  assert all(np.isfinite(x).all() and x.dtype == jnp.float32 for x in grads)


def test_what_does_not_fit_is_told_the_way_out():
  init = lambda module: jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
  with pytest.raises(ValueError, match=r"top=5 is not one of the numbers of patches from 1 to 4"):
    init(GLSim(tiny(), top=5))
  with pytest.raises(ValueError, match=r"set pool='cls', got 'mean'"):
    init(GLSim(tiny(pool="mean")))
  with pytest.raises(ValueError, match=r"5 patches are not a grid of 2x2"):
    box_of_best(jnp.zeros((1, 5)), (2, 2), 1)
