"""Laws and closed forms of softmaxes with margins; other libraries' answers to all over classes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import FAST_COMPILE, assert_close
from libraries import answers, check_answer

from repjax.losses.adaptive_margin import madacos
from repjax.losses.margin_softmax import (
  arcface,
  cosface,
  large_margin_softmax,
  normalized_softmax,
  p2s_grad,
  sphereface,
  sub_center_arcface,
)
from repjax.losses.proxies import proxy_anchor, proxy_nca, soft_triple
from repjax.train.mesh import batch_sharding, make_mesh, replicated

LOSSES = [arcface, cosface, large_margin_softmax, normalized_softmax, p2s_grad, sphereface]
# Whose mean pytorch-metric-learning gives, by the name of the answer; those over proxies too.
SAME_AS = {
  "arcface": arcface,
  "arcface_beyond_pi": functools.partial(arcface, margin=2, scale=8),
  "cosface": cosface,
  "large_margin_softmax": large_margin_softmax,
  "large_margin_softmax_3": functools.partial(large_margin_softmax, margin=3, scale=0.5),
  "normalized_softmax": normalized_softmax,
  "p2s_grad": p2s_grad,
  "proxy_anchor": proxy_anchor,
  "proxy_anchor_soft": functools.partial(proxy_anchor, margin=0.3, alpha=4),
  "proxy_nca": proxy_nca,
  "proxy_nca_plus_plus": functools.partial(proxy_nca, temperature=1 / 9),
  "soft_triple": soft_triple,
  "sphereface": sphereface,
  "sub_center_arcface": sub_center_arcface,
}


def draw(batch=11, dim=6, classes=7, dtype=np.float32):
  rng = np.random.default_rng(0)
  embeddings, centers = rng.normal(size=(batch, dim)), rng.normal(size=(classes, dim))
  return embeddings.astype(dtype), rng.integers(classes, size=batch), centers.astype(dtype)


def at_angles(angles):
  """Embeddings at angles to the first of three orthogonal centers, and away from the others."""
  angles = np.asarray(angles)
  embeddings = np.zeros((len(angles), 4))
  embeddings[:, 0], embeddings[:, 3] = np.cos(angles), np.sin(angles)
  return embeddings.astype(np.float32), np.zeros(len(angles), int), np.eye(3, 4, dtype=np.float32)


@pytest.mark.parametrize("answer", answers("margins"))
def test_loss_equals_another_library(answer):
  loss = SAME_AS[answer.rpartition("_")[0]]
  check_answer("margins", answer, lambda **arrays: jnp.mean(loss(**arrays)))


@pytest.mark.parametrize("loss", [cosface, arcface])
def test_no_margin_is_a_softmax_of_cosines(loss):
  arrays = draw()
  wanted = normalized_softmax(*arrays, temperature=1 / 16)
  np.testing.assert_allclose(loss(*arrays, margin=0.0, scale=16.0), wanted, rtol=2e-6)


def test_an_angle_taken_once_is_a_softmax():
  embeddings, labels, centers = draw()
  wanted = -jax.nn.log_softmax(embeddings @ centers.T)[np.arange(11), labels]
  ours = large_margin_softmax(embeddings, labels, centers, margin=1)
  np.testing.assert_allclose(ours, wanted, rtol=1e-5)


@pytest.mark.parametrize("loss", [large_margin_softmax, sphereface])
def test_ease_leads_to_no_margin(loss):
  arrays = draw()
  np.testing.assert_allclose(loss(*arrays, ease=1e7), loss(*arrays, margin=1), rtol=1e-5)


def test_one_center_for_each_class_is_arcface():
  embeddings, labels, centers = draw()
  ours = sub_center_arcface(embeddings, labels, centers[:, None])
  np.testing.assert_allclose(ours, arcface(embeddings, labels, centers), rtol=1e-6)


def test_centers_that_are_nobodys_nearest_do_not_matter():
  embeddings, labels, centers = at_angles([0.1, 1.0, 1.5])
  away = np.stack([centers, np.tile(-centers.sum(0), (3, 1))], 1)
  ours = sub_center_arcface(embeddings, labels, away)
  np.testing.assert_allclose(ours, arcface(embeddings, labels, centers), rtol=1e-6)


@pytest.mark.parametrize("loss", [arcface, cosface, normalized_softmax, p2s_grad])
def test_lengths_of_inputs_do_not_matter(loss):
  embeddings, labels, centers = draw()
  longer = 10 ** np.random.default_rng(1).uniform(-2, 2, (18, 1)).astype(np.float32)
  ours = loss(embeddings * longer[:11], labels, centers * longer[11:])
  np.testing.assert_allclose(ours, loss(embeddings, labels, centers), rtol=2e-5)


def test_lengths_of_embeddings_scale_sphereface():
  embeddings, labels, centers = draw()
  ours = sphereface(3 * embeddings, labels, 5 * centers)
  np.testing.assert_allclose(ours, sphereface(embeddings, labels, centers, scale=3.0), rtol=1e-5)


@pytest.mark.parametrize(
  "loss",
  [
    functools.partial(arcface, margin=0.5, scale=8.0),
    functools.partial(arcface, margin=2.0, scale=8.0),
    functools.partial(cosface, scale=8.0),
    functools.partial(large_margin_softmax, margin=3),
    functools.partial(sphereface, margin=4),
  ],
)
def test_loss_rises_with_the_angle_up_to_pi(loss):
  values = loss(*at_angles(np.linspace(0, np.pi, 200)))
  assert (np.diff(values) > -1e-5).all()
  assert values[-1] > values[0] + 1


def test_arcface_is_the_closed_form_at_any_angle():
  angles = np.linspace(0, np.pi - 0.51, 30)
  ours = arcface(*at_angles(angles), scale=16.0)
  wanted = np.log1p(2 * np.exp(-16 * np.cos(angles + 0.5)))
  np.testing.assert_allclose(ours, wanted, rtol=2e-5)


def test_easy_margin_spares_the_far_side():
  near, far = at_angles([0.2, 1.5]), at_angles([1.6, 3.0])
  np.testing.assert_allclose(arcface(*near, easy_margin=True), arcface(*near), rtol=1e-6)
  np.testing.assert_allclose(arcface(*far, easy_margin=True), arcface(*far, margin=0), rtol=1e-6)


@pytest.mark.parametrize("angle", [1e-5, 1e-3, 0.1, 1.0])
def test_arcface_pulls_as_hard_at_small_angles(angle):
  # The own class's logit s cos(angle + m) has slope s sin(angle + m), and all else is the others'.
  embeddings, labels, centers = at_angles([angle])
  pull = jax.grad(lambda x: jnp.sum(arcface(x, labels, centers, scale=4.0)))(embeddings)[0]
  doubt = 1 / (1 + np.exp(4 * np.cos(angle + 0.5)) / 2)
  wanted = 4 * np.sin(angle + 0.5) * doubt
  across = np.array([-np.sin(angle), 0, 0, np.cos(angle)])
  np.testing.assert_allclose(pull @ across, wanted, rtol=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_an_embedding_on_its_own_center_or_opposite_has_a_finite_gradient(loss):
  _, _, centers = draw()
  embeddings, labels = np.concatenate([centers, -centers]), np.tile(np.arange(7), 2)
  total = lambda *floats: jnp.sum(loss(floats[0], labels, floats[1]))
  run = jax.jit(jax.grad(total, (0, 1)), compiler_options=FAST_COMPILE)
  for grad in run(embeddings, centers):
    assert np.isfinite(grad).all()
    assert np.abs(grad).max() < 1e3


def test_what_is_all_but_certain_is_not_rounded_to_nothing():
  value, grad = jax.value_and_grad(lambda x: arcface(x, *at_angles([0])[1:], margin=0.0)[0])(
    at_angles([0.3])[0]
  )
  np.testing.assert_allclose(value, 2 * np.exp(-64 * np.cos(0.3)), rtol=2e-5)
  assert grad.any()


def test_p2s_grad_vanishes_at_orthogonal_classes():
  np.testing.assert_array_equal(p2s_grad(np.eye(4), np.arange(4), np.eye(4)), 0)


def test_p2s_grad_has_the_gradient_of_the_paper():
  embeddings, labels, centers = draw()
  grad = jax.grad(lambda x: 7 / 2 * jnp.sum(p2s_grad(x, labels, centers)))(embeddings)
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  z, w, wanted = unit(embeddings), unit(centers), np.zeros_like(embeddings)
  for i, x in enumerate(embeddings):
    for c in range(7):
      slope = (w[c] - (z[i] @ w[c]) * z[i]) / np.linalg.norm(x)  # of the cosine
      wanted[i] += (z[i] @ w[c] - (c == labels[i])) * slope
  np.testing.assert_allclose(grad, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [arcface, cosface, sub_center_arcface])
def test_each_example_may_have_a_margin_of_its_own(loss):
  embeddings, labels, centers = draw()
  centers = centers[:, None] if loss is sub_center_arcface else centers
  margins = np.linspace(0, 0.6, 11, dtype=np.float32)
  ours = loss(embeddings, labels, centers, margin=margins)
  wanted = [loss(embeddings, labels, centers, margin=m)[i] for i, m in enumerate(margins)]
  np.testing.assert_allclose(ours, wanted, rtol=1e-6)


@pytest.mark.parametrize("loss", [arcface, large_margin_softmax, madacos, normalized_softmax])
def test_a_single_class_leaves_nothing_to_learn(loss):
  embeddings, _, centers = draw(classes=1)
  total = lambda *floats: jnp.sum(loss(floats[0], np.zeros(11, int), floats[1]))
  run = jax.jit(jax.value_and_grad(total, (0, 1)), compiler_options=FAST_COMPILE)
  value, grads = run(embeddings, centers)
  assert value == 0
  assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize("tile_size", [0, 4])
@pytest.mark.parametrize(
  ("loss", "name"),
  [(cosface, "scale"), (proxy_anchor, "alpha"), (soft_triple, "gamma"), (soft_triple, "scale")],
)
def test_a_scale_may_be_learned(loss, name, tile_size):
  embeddings, labels, vectors = draw()
  vectors = vectors[:, None] * np.array([[[1], [-1]]], np.float32) if name == "gamma" else vectors
  vectors = vectors[:, None] if (loss, name) == (soft_triple, "scale") else vectors
  total = lambda x: jnp.sum(loss(embeddings, labels, vectors, tile_size=tile_size, **{name: x}))
  run = jax.jit(jax.value_and_grad(total), compiler_options=FAST_COMPILE)
  (up, _), (down, _), (_, slope) = run(2.02), run(1.98), run(2.0)
  np.testing.assert_allclose(slope, (up - down) / 0.04, rtol=2e-3)


@pytest.mark.parametrize("tile_size", [0, 8])
def test_arcface_is_the_same_with_centers_split_over_devices(tile_size):
  embeddings, labels, centers = draw(16, 5, 64)
  weight = np.random.default_rng(1).uniform(0.5, 2, 16).astype(np.float32)

  def total(embeddings, centers):
    loss = arcface(embeddings, labels, centers, tile_size=tile_size)
    return jnp.sum(weight * loss), loss

  run = jax.value_and_grad(total, (0, 1), has_aux=True)
  (_, wanted), wanted_grads = jax.jit(run, compiler_options=FAST_COMPILE)(embeddings, centers)
  mesh = make_mesh("data:8")
  put = jax.device_put(embeddings, replicated(mesh)), jax.device_put(centers, batch_sharding(mesh))
  split = jax.jit(run, compiler_options=FAST_COMPILE).lower(*put).compile()
  (_, loss), grads = split(*put)
  assert_close((loss, grads), (wanted, wanted_grads))
  assert grads[1].sharding.is_equivalent_to(batch_sharding(mesh), 2)
  assert "all-gather" not in split.as_text(), "the centers do not stay where they are"


@pytest.mark.parametrize("loss", LOSSES)
def test_a_label_that_names_no_class_is_not_a_number(loss):
  embeddings, labels, centers = draw()
  wrong = np.where(np.arange(11) == 3, 7, labels)
  np.testing.assert_array_equal(np.isnan(loss(embeddings, wrong, centers)), np.arange(11) == 3)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shapes", [((5, 4), (5,), (7, 3)), ((5, 4), (6,), (7, 4)), ((5, 4),) * 3])
def test_arrays_that_do_not_fit_name_all_shapes(loss, shapes):
  message = ".*".join(str(shape).replace("(", r"\(").replace(")", r"\)") for shape in shapes)
  with pytest.raises(ValueError, match=message):
    loss(np.ones(shapes[0]), np.zeros(shapes[1], int), np.ones(shapes[2]))


def test_labels_are_integers():
  with pytest.raises(ValueError, match=r"labels number the classes, got float"):
    cosface(np.ones((2, 3)), np.zeros(2), np.ones((4, 3)))


def test_degrees_are_not_radians():
  with pytest.raises(ValueError, match=r"margin=28.6 is not in \[0, pi\]"):
    arcface(*draw(), margin=28.6)


def test_an_angle_is_taken_a_whole_number_of_times():
  with pytest.raises(ValueError, match=r"margin=1.5 multiplies the angle"):
    sphereface(*draw(), margin=1.5)
