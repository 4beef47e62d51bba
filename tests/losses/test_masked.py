"""Masked pixels and tokens: SimMIM's own reduction, torch's cross entropy, where gradients go."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import P
from libraries import answers, check_answer

from repjax.losses import masked_pixels
from repjax.losses.masked import masked_tokens
from repjax.train.mesh import batch_sharding, make_mesh

BATCH, ROWS, PATCH, CHANNELS = 8, 3, 4, 3
PATCHES, PIXELS = ROWS * ROWS, PATCH * PATCH * CHANNELS
RNG = np.random.default_rng(0)
PREDICTION, TARGET = RNG.normal(size=(2, BATCH, PATCHES, PIXELS)).astype(np.float32)
MASK = RNG.uniform(size=(BATCH, PATCHES)) < 0.6
MASK[0], MASK[1] = False, True
EQUAL = np.stack([RNG.permutation(PATCHES) < 5 for _ in range(BATCH)])
WEIGHT = RNG.uniform(0.5, 2, BATCH).astype(np.float32)

LOGITS = 3 * RNG.normal(size=(BATCH, PATCHES, 5)).astype(np.float32)
TARGETS = RNG.integers(5, size=(BATCH, PATCHES))

# What other libraries take the mean of, by the name of the answer.
SAME_AS = {"masked_tokens_torch": masked_tokens}

FORMS = [("l1", False), ("l2", False), ("l2", True)]
forms = pytest.mark.parametrize(("norm", "normalize_target"), FORMS)


def in_float64(norm, normalize_target):
  prediction, target = PREDICTION.astype(np.float64), TARGET.astype(np.float64)
  out = np.zeros(BATCH)
  for i in range(BATCH):
    errors = []
    for p in np.flatnonzero(MASK[i]):
      x = target[i, p]
      if normalize_target:
        x = (x - x.mean()) / np.sqrt(((x - x.mean()) ** 2).sum() / (PIXELS - 1) + 1e-6)
      error = np.abs(prediction[i, p] - x)
      errors += list(error if norm == "l1" else error**2)
    out[i] = np.mean(errors) if errors else 0
  return out


def weighted(prediction, target, weight=WEIGHT, mask=MASK, **options):
  per_example = masked_pixels(prediction, target, mask, **options)
  return jnp.sum(weight * per_example), per_example


@functools.partial(jax.jit, static_argnames=("norm", "normalize_target"))
def value_and_grads(*args, **options):
  f = jax.value_and_grad(functools.partial(weighted, **options), (0, 1), has_aux=True)
  (_, value), grads = f(*args)
  return value, *grads


@forms
def test_masked_pixels_equals_its_definition(norm, normalize_target):
  ours = masked_pixels(PREDICTION, TARGET, MASK, norm=norm, normalize_target=normalize_target)
  np.testing.assert_allclose(ours, in_float64(norm, normalize_target), rtol=1e-5)


def test_masked_pixels_equals_the_reduction_of_simmim():
  """Of images that hide equally many patches, as in training.

  SimMIM's code sums the absolute errors of hidden pixels over the batch and all channels, and
  divides by the number of hidden positions (plus 1e-5) and by the number of channels.
  """

  def to_image(patches):
    x = patches.astype(np.float64).reshape(BATCH, ROWS, ROWS, PATCH, PATCH, CHANNELS)
    return x.transpose(0, 5, 1, 3, 2, 4).reshape(BATCH, CHANNELS, ROWS * PATCH, ROWS * PATCH)

  mask = EQUAL.reshape(BATCH, ROWS, ROWS).repeat(PATCH, 1).repeat(PATCH, 2)[:, None]
  error = np.abs(to_image(TARGET) - to_image(PREDICTION))
  official = (error * mask).sum() / (mask.sum() + 1e-5) / CHANNELS
  ours = jnp.mean(masked_pixels(PREDICTION, TARGET, EQUAL))
  np.testing.assert_allclose(ours, official, rtol=1e-5)


@forms
def test_gradients_reach_hidden_predictions_alone(norm, normalize_target):
  options = {"norm": norm, "normalize_target": normalize_target}
  _, prediction, target = value_and_grads(PREDICTION, TARGET, **options)
  assert (prediction[~MASK] == 0).all() and (prediction[MASK] != 0).all()
  assert (target == 0).all()


@forms
def test_visible_pixels_do_not_matter(norm, normalize_target):
  options = {"norm": norm, "normalize_target": normalize_target}
  hidden = MASK[..., None]
  ours = value_and_grads(np.where(hidden, PREDICTION, 5), np.where(hidden, TARGET, -7), **options)
  for x, y in zip(ours, value_and_grads(PREDICTION, TARGET, **options), strict=True):
    np.testing.assert_array_equal(x, y)


@forms
def test_an_empty_mask_gives_zero_and_no_gradient(norm, normalize_target):
  options = {"norm": norm, "normalize_target": normalize_target, "mask": np.zeros_like(MASK)}
  for x in value_and_grads(PREDICTION, TARGET, **options):
    assert (x == 0).all()


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_a_perfect_prediction_costs_nothing(norm):
  value, grad, _ = value_and_grads(TARGET, TARGET, norm=norm)
  assert (value == 0).all() and (grad == 0).all()


def test_normalised_targets_forget_brightness_and_contrast_of_each_patch():
  gain = RNG.uniform(0.5, 20, (BATCH, PATCHES, 1)).astype(np.float32)
  offset = RNG.uniform(-5, 5, (BATCH, PATCHES, 1)).astype(np.float32)
  options = {"norm": "l2", "normalize_target": True}
  ours = masked_pixels(PREDICTION, TARGET * gain + offset, MASK, **options)
  np.testing.assert_allclose(ours, masked_pixels(PREDICTION, TARGET, MASK, **options), rtol=1e-4)


def test_a_flat_patch_is_normalised_to_zero():
  flat = np.full_like(TARGET, 0.5)
  ours = masked_pixels(PREDICTION, flat, EQUAL, norm="l2", normalize_target=True)
  wanted = [(PREDICTION[i, EQUAL[i]].astype(np.float64) ** 2).mean() for i in range(BATCH)]
  np.testing.assert_allclose(ours, wanted, rtol=1e-5)


@pytest.mark.parametrize("layout", ["shard_map", "auto_mesh"])
def test_masked_pixels_has_one_value_and_gradient_on_any_layout(layout):
  mesh = make_mesh()
  f = lambda p, t, w, m: value_and_grads(p, t, w, m, norm="l2", normalize_target=True)
  args = PREDICTION, TARGET, WEIGHT, MASK
  if layout == "shard_map":
    sharded = jax.shard_map(f, mesh=mesh, in_specs=P("data"), out_specs=P("data"))(*args)
  else:
    sharded = jax.jit(f)(*jax.device_put(args, batch_sharding(mesh)))
  for x, y in zip(sharded, f(*args), strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


def test_masked_pixels_of_bfloat16_is_computed_in_float32():
  low = [jnp.asarray(x, jnp.bfloat16) for x in (PREDICTION, TARGET)]
  ours = masked_pixels(*low, MASK)
  assert ours.dtype == jnp.float32
  exact = masked_pixels(*(np.asarray(x, np.float32) for x in low), MASK)
  np.testing.assert_allclose(ours, exact, rtol=1e-6)


@pytest.mark.parametrize(
  ("args", "options", "message"),
  [
    ((PREDICTION, TARGET[:, :4], MASK), {}, r"\(8, 9, 48\).*\(8, 4, 48\)"),
    ((PREDICTION, TARGET, MASK[:, :4]), {}, r"mask of shape \(8, 9\), got \(8, 4\)"),
    ((PREDICTION, TARGET, MASK), {"norm": "l3"}, "'l3' is unknown; choose 'l1' or 'l2'"),
  ],
)
def test_mismatched_patches_are_named(args, options, message):
  with pytest.raises(ValueError, match=message):
    masked_pixels(*args, **options)


@pytest.mark.parametrize("answer", answers("masked"))
def test_loss_equals_another_library(answer):
  loss = SAME_AS[answer.rpartition("_")[0]]
  check_answer("masked", answer, lambda **arrays: jnp.mean(loss(**arrays)))


def test_a_masked_token_costs_what_a_classified_example_costs():
  alone = masked_tokens(LOGITS.reshape(-1, 1, 5), TARGETS.reshape(-1, 1)).reshape(BATCH, PATCHES)
  wanted = [alone[i, MASK[i]].mean() if MASK[i].any() else 0 for i in range(BATCH)]
  np.testing.assert_allclose(masked_tokens(LOGITS, TARGETS, MASK), wanted, rtol=1e-5)


def test_a_token_is_left_out_by_the_mask_or_by_a_negative_target():
  wanted = masked_tokens(LOGITS, TARGETS, MASK)
  for ignored in (-1, -100):
    targets = np.where(MASK, TARGETS, ignored)
    np.testing.assert_array_equal(masked_tokens(LOGITS, targets), wanted)


def test_equal_logits_cost_the_log_of_the_vocabulary():
  ours = masked_tokens(np.full_like(LOGITS, 1e4), TARGETS, EQUAL)
  np.testing.assert_allclose(ours, np.log(5), rtol=1e-3)


def test_a_vocabulary_may_be_narrowed_by_infinite_logits():
  narrow = np.concatenate([LOGITS, np.full_like(LOGITS, -np.inf)], -1)
  total = lambda logits: jnp.sum(masked_tokens(logits, TARGETS, MASK))
  value, grad = jax.value_and_grad(total)(narrow)
  np.testing.assert_allclose(value, total(LOGITS), rtol=1e-6)
  assert np.isfinite(grad).all()


def test_mismatched_tokens_are_named():
  with pytest.raises(ValueError, match=r"\(8, 9, 5\) and \(8, 4\)"):
    masked_tokens(LOGITS, TARGETS[:, :4])
  with pytest.raises(ValueError, match=r"mask of shape \(8, 9\), got \(8, 4\)"):
    masked_tokens(LOGITS, TARGETS, MASK[:, :4])
