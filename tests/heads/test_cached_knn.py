"""Cache logits: Tip-Adapter's closed form, in tiles and shards, with unlabelled keys left out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import P

from repjax import heads

RNG = np.random.default_rng(0)
CLASSES = 3
QUERY, KEYS = (RNG.normal(size=(n, 6)).astype(np.float32) for n in (20, 48))
Y = RNG.integers(0, CLASSES, 48).astype(np.int32)
PRIOR = RNG.normal(size=(20, CLASSES)).astype(np.float32)
cache = jax.jit(heads.cache_logits, static_argnames=("classes", "tile"))


def in_float64(query=QUERY, keys=KEYS, y=Y, beta=5.5, alpha=1.0):
  query, keys = (
    x.astype(float) / np.linalg.norm(x.astype(float), axis=1, keepdims=True) for x in (query, keys)
  )
  affinity = np.exp(-(beta - beta * query @ keys.T))
  return PRIOR + alpha * affinity @ np.eye(CLASSES)[y]


@pytest.mark.parametrize(("beta", "alpha"), [(5.5, 1.0), (1.0, 3.0), (0.0, 0.5)])
def test_votes_equal_the_papers_closed_form(beta, alpha):
  options = {"classes": CLASSES, "sharpness": beta, "weight": alpha}
  ours = cache(QUERY, KEYS, Y, prior_logits=PRIOR, **options)
  np.testing.assert_allclose(ours, in_float64(beta=beta, alpha=alpha), rtol=1e-4, atol=1e-5)
  alone = cache(QUERY, KEYS, Y, **options)
  np.testing.assert_allclose(alone, ours - PRIOR, rtol=1e-3, atol=1e-5)


def test_the_tile_changes_nothing():
  for tile in (7, 48):
    tiled = cache(QUERY, KEYS, Y, classes=CLASSES, tile=tile)
    np.testing.assert_allclose(tiled, in_float64() - PRIOR, rtol=1e-4, atol=1e-5)


def test_parts_of_a_cache_add_up_and_unlabelled_keys_do_not_count():
  half = np.where(np.arange(48) % 2 == 0, Y, -1), np.where(np.arange(48) % 2 == 1, Y, -1)
  parts = [cache(QUERY, KEYS, y, classes=CLASSES) for y in half]
  np.testing.assert_allclose(sum(parts), in_float64() - PRIOR, rtol=1e-4, atol=1e-5)


def test_a_cache_on_eight_shards_is_the_whole_cache():
  mesh = jax.make_mesh((8,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
  logits = functools.partial(heads.cache_logits, classes=CLASSES, tile=4, axis_name="i")
  split = jax.shard_map(
    lambda q, k, y, p: logits(q, k, y, prior_logits=p),
    mesh=mesh,
    in_specs=(P(), P("i"), P("i"), P()),
    out_specs=P(),
  )
  np.testing.assert_allclose(jax.jit(split)(QUERY, KEYS, Y, PRIOR), in_float64(), rtol=1e-4)


def test_lengths_change_nothing():
  scaled = cache(8 * QUERY, KEYS / 4, Y, classes=CLASSES)
  np.testing.assert_allclose(scaled, cache(QUERY, KEYS, Y, classes=CLASSES), rtol=1e-5)


def test_what_does_not_fit_is_named():
  with pytest.raises(ValueError, match="48 keys"):
    heads.cache_logits(QUERY, KEYS, Y[1:], classes=CLASSES)
  with pytest.raises(ValueError, match=r"prior_logits \(20, 3\), got \(3,\)"):
    heads.cache_logits(QUERY, KEYS, Y, classes=CLASSES, prior_logits=jnp.ones(3))
