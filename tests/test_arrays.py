"""Shared operations: unit vectors, means over what a mask keeps, checks that name what is wrong."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax.arrays import (
  check_mask,
  check_same_shape,
  l2_normalize,
  masked_mean,
  platform,
  smooth_l1,
  standardize,
)
from repjax.train import make_mesh

X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
KEPT = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]], bool)


@pytest.mark.parametrize("axis", [0, -1])
def test_normalized_vectors_equal_their_definition(axis):
  wanted = X / np.linalg.norm(X.astype(np.float64), axis=axis, keepdims=True)
  np.testing.assert_allclose(l2_normalize(X, axis=axis), wanted, rtol=1e-6)


def test_zero_vectors_stay_zero_with_a_finite_gradient():
  value, grad = jax.value_and_grad(lambda x: jnp.sum(l2_normalize(x)))(jnp.zeros((2, 3)))
  assert value == 0 and np.isfinite(grad).all()


def test_normalizing_keeps_the_dtype():
  assert l2_normalize(jnp.asarray(X, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_masked_means_equal_their_definition(axis):
  weight = KEPT.astype(np.float64)
  wanted = (X * weight).sum(axis) / np.maximum(weight.sum(axis), 1)
  np.testing.assert_allclose(masked_mean(X, KEPT, axis=axis), wanted, rtol=1e-6)


def test_a_mask_that_keeps_all_changes_nothing():
  np.testing.assert_allclose(masked_mean(X, np.ones_like(KEPT), axis=1), X.mean(1), rtol=1e-6)
  np.testing.assert_allclose(masked_mean(X, axis=1), X.mean(1), rtol=1e-6)


def test_dropped_entries_may_be_anything():
  x = jnp.where(KEPT, X, np.nan)
  value, grad = jax.value_and_grad(lambda x: masked_mean(x, KEPT))(x)
  np.testing.assert_allclose(value, X[KEPT].mean(), rtol=1e-6)
  np.testing.assert_allclose(grad, KEPT / KEPT.sum(), rtol=1e-6)


@pytest.mark.parametrize(
  ("rank", "shapes", "message"),
  [
    (2, ((4, 3), (4, 2)), r"equal \[batch, dim\] shapes, got {'a': \(4, 3\), 'b': \(4, 2\)}"),
    (1, ((4, 1), (4, 1)), r"equal \[batch\] shapes, got {'a': \(4, 1\), 'b': \(4, 1\)}"),
    (4, ((1,), (1,)), "equal rank-4 shapes"),
  ],
)
def test_unequal_shapes_are_named(rank, shapes, message):
  a, b = map(np.zeros, shapes)
  with pytest.raises(ValueError, match=message):
    check_same_shape(rank, a=a, b=b)


def test_a_mask_of_another_shape_is_named():
  check_mask(np.ones((2, 3), bool), (2, 3))
  with pytest.raises(ValueError, match=r"mask of shape \(2, 3\), got \(2, 4\)"):
    check_mask(np.ones((2, 4), bool), (2, 3))


@pytest.mark.parametrize("ddof", [0, 1])
def test_standardized_vectors_equal_their_definition_far_from_zero_too(ddof):
  for x in (X, X + 100):
    exact = x.astype(np.float64)
    deviation = np.sqrt(exact.var(1, ddof=ddof, keepdims=True) + 1e-5)
    wanted = (exact - exact.mean(1, keepdims=True)) / deviation
    np.testing.assert_allclose(standardize(x, ddof=ddof), wanted, rtol=1e-4, atol=1e-4)


def test_smooth_errors_are_squared_near_zero_and_absolute_beyond():
  error = jnp.array([0.0, 0.2, -0.5, 3.0, -1e30])
  value, slope = jax.vmap(jax.value_and_grad(lambda e: smooth_l1(e, 0.5)))(error)
  np.testing.assert_allclose(value, [0, 0.04, 0.25, 2.75, 1e30], rtol=1e-6)
  np.testing.assert_allclose(slope[jnp.array([0, 1, 3, 4])], [0, 0.4, 1, -1], rtol=1e-6)


@pytest.mark.parametrize(
  ("kind", "name"),
  [("cpu", "cpu"), ("TPU v5 lite", "tpu"), ("TPU7x", "tpu"), ("NVIDIA H100 80GB HBM3", "gpu")],
)
def test_programs_know_what_they_are_traced_for(kind, name):
  mesh = make_mesh().abstract_mesh
  device = dataclasses.replace(mesh.abstract_device, device_kind=kind)
  assert platform() == jax.default_backend()
  with jax.sharding.use_abstract_mesh(mesh.update(abstract_device=device)):
    assert platform() == name
