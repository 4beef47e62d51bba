"""Laws and closed forms of losses over proxies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import FAST_COMPILE
from jax import P

from repjax.losses.margin_softmax import cosface, normalized_softmax, sub_center_arcface
from repjax.losses.proxies import proxy_anchor, proxy_nca, soft_triple
from repjax.train.mesh import make_mesh


def draw(batch=11, dim=6, classes=7):
  rng = np.random.default_rng(0)
  embeddings, proxies = rng.normal(size=(batch, dim)), rng.normal(size=(classes, dim))
  return (
    embeddings.astype(np.float32),
    rng.integers(classes, size=batch),
    proxies.astype(np.float32),
  )


def test_proxy_nca_is_a_softmax_of_cosines_at_half_the_temperature():
  arrays = draw()
  wanted = normalized_softmax(*arrays, temperature=0.1)
  np.testing.assert_allclose(proxy_nca(*arrays, temperature=0.2), wanted, rtol=2e-6)


def test_the_own_proxy_in_the_sum_bends_proxy_nca_to_stay_above_zero():
  arrays = draw()
  wanted = np.log1p(np.exp(proxy_nca(*arrays, own_in_sum=False)))
  np.testing.assert_allclose(proxy_nca(*arrays), wanted, rtol=2e-6)


def test_proxy_nca_of_a_single_class_is_nothing():
  embeddings, _, proxies = draw()
  for own_in_sum in (True, False):
    run = lambda x, own=own_in_sum: jnp.sum(
      proxy_nca(x, np.zeros(11, int), proxies[:1], own_in_sum=own)
    )
    value, grad = jax.value_and_grad(run)(embeddings)
    assert value == 0
    assert not grad.any()


def test_one_center_for_each_class_makes_soft_triple_cosface():
  embeddings, labels, centers = draw()
  ours = soft_triple(embeddings, labels, centers[:, None], margin=0.2, scale=10.0)
  wanted = cosface(embeddings, labels, centers, margin=0.2, scale=10.0)
  np.testing.assert_allclose(ours, wanted, rtol=2e-6)


def test_a_cold_soft_triple_takes_the_nearest_center():
  embeddings, labels, _ = draw()
  centers = np.random.default_rng(1).normal(size=(7, 3, 6)).astype(np.float32)
  ours = soft_triple(embeddings, labels, centers, margin=0, gamma=1e-4, scale=8.0)
  wanted = sub_center_arcface(embeddings, labels, centers, margin=0, scale=8.0)
  np.testing.assert_allclose(ours, wanted, rtol=1e-5)


def test_proxy_anchor_of_orthogonal_proxies_is_the_closed_form():
  # Four examples on each of two proxies, and a third proxy without any.
  embeddings, labels = np.repeat(np.eye(2, 3), 4, 0), np.repeat([0, 1], 4)
  ours = proxy_anchor(embeddings, labels, np.eye(3), margin=0.2, alpha=5.0)
  pull = np.log1p(4 * np.exp(-5 * 0.8))
  push = (2 * np.log1p(4 * np.exp(5 * 0.2)) + np.log1p(8 * np.exp(5 * 0.2))) / 3
  np.testing.assert_allclose(ours, pull + push, rtol=1e-5)


def test_proxy_anchor_is_known_to_be_the_same_on_all_shards():
  embeddings, labels, proxies = draw(16)
  run = jax.shard_map(
    functools.partial(proxy_anchor, axis_name="data"),
    mesh=make_mesh("data:8"),
    in_specs=(P("data"), P("data"), P()),
    out_specs=P(),
  )
  ours = jax.jit(run, compiler_options=FAST_COMPILE)(embeddings, labels, proxies)
  np.testing.assert_allclose(ours, proxy_anchor(embeddings, labels, proxies), rtol=1e-5)


@pytest.mark.parametrize("loss", [proxy_anchor, proxy_nca])
def test_a_label_that_names_no_class_is_not_a_number(loss):
  embeddings, labels, proxies = draw()
  wrong = np.where(np.arange(11) == 3, 7, labels)
  nan = np.isnan(loss(embeddings, wrong, proxies))
  np.testing.assert_array_equal(nan, np.arange(11) == 3 if nan.ndim else True)


def test_arrays_that_do_not_fit_name_all_shapes():
  embeddings, labels, proxies = draw()
  for loss in (proxy_anchor, proxy_nca):
    with pytest.raises(ValueError, match=r"\(11, 6\).*\(11,\).*'proxies': \(7, 5\)"):
      loss(embeddings, labels, proxies[:, :5])
  with pytest.raises(ValueError, match=r"centers \[classes, centers, dim\], got .*\(7, 6\)"):
    soft_triple(embeddings, labels, proxies)
