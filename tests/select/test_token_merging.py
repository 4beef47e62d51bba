"""ToMe, PiToMe, EViT: official operations, a NumPy statement, and what merging conserves."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repjax import select

FIXTURE = np.load(pathlib.Path(__file__).parents[1] / "oracles/token_merging.npz")
RNG = np.random.default_rng(0)
KEYS = RNG.normal(size=(2, 12, 5)) + 0.5
X = RNG.normal(size=(2, 12, 7)).astype(np.float32)


def close(x, y, tolerance=1e-5):
  np.testing.assert_allclose(np.asarray(x), y, tolerance, tolerance)


def as_sets(x):
  """Rows of each example in an order of their own, for results whose order is free."""
  return np.stack([row[np.lexsort(np.round(row, 3).T)] for row in np.asarray(x)])


METHODS = {
  "tome": jax.jit(select.tome, static_argnums=1),
  "pitome": jax.jit(functools.partial(select.pitome, margin=0.3), static_argnums=1),
  "pitome_all": jax.jit(
    functools.partial(select.pitome, margin=0.3, candidates=16), static_argnums=1
  ),
}
merge, unmerge = jax.jit(select.merge), jax.jit(select.unmerge)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("r", [5, 8])
def test_equals_the_official_operations_behind_a_class_token(method, r):
  patches = FIXTURE["keys"][:, 1:].astype(np.float32)
  reduction = select.behind(METHODS[method](patches, 16 - r), 1)
  x, sizes = merge(reduction, FIXTURE["x"].astype(np.float32), FIXTURE["sizes"])
  expected = FIXTURE[f"{method}_{r}/x"], FIXTURE[f"{method}_{r}/sizes"]
  close(as_sets(np.concatenate([x, sizes[..., None]], -1)), as_sets(np.concatenate(expected, -1)))
  close(x[:, 0], FIXTURE["x"][:, 0])


def test_evit_equals_the_official_operations():
  attention, x = (FIXTURE[name].astype(np.float32) for name in ("attention", "x"))
  reduction = select.evit(attention, 7)
  fused = select.fuse(reduction, x, attention)
  close(as_sets(fused), as_sets(FIXTURE["evit"]))


def numpy_tome(keys, left):
  """One example, a pair at a time: which token each goes into."""
  unit = keys / np.linalg.norm(keys, axis=-1, keepdims=True)
  tokens, into, pairs = len(keys), np.arange(len(keys)), []
  for i in range(1, tokens, 2):
    best = max(range(0, tokens, 2), key=lambda j: unit[i] @ unit[j])
    pairs.append((unit[i] @ unit[best], i, best))
  for _, i, best in sorted(pairs, reverse=True)[: tokens - left]:
    into[i] = best
  return into


def test_tome_equals_a_pair_at_a_time():
  reduction = METHODS["tome"](KEYS, 8)
  for row, kept, target in zip(KEYS, *map(np.asarray, reduction), strict=True):
    np.testing.assert_array_equal(kept[target], numpy_tome(row, 8))


def test_energy_equals_its_definition_in_float64():
  expected = np.zeros(KEYS.shape[:2])
  for b, i, j in np.ndindex(2, 12, 12):
    u, v = KEYS[b, i], KEYS[b, j]
    over = u @ v / np.sqrt((u @ u) * (v @ v)) - 0.4
    expected[b, i] += (over if over > 0 else 0.7 * np.expm1(over)) / 12
  close(select.token_energy(KEYS, margin=0.4, alpha=0.7), expected)
  with jax.enable_x64(True):
    close(select.token_energy(KEYS, margin=0.4, alpha=0.7), expected, 1e-12)


@pytest.mark.parametrize("method", ["tome", "pitome"])
def test_nothing_changes_if_all_are_left(method):
  reduction = METHODS[method](KEYS, 12)
  x, sizes = merge(reduction, X)
  np.testing.assert_array_equal(x, select.take(reduction, X))
  np.testing.assert_array_equal(unmerge(reduction, x), X)
  np.testing.assert_array_equal(sizes, np.ones((2, 12)))


@pytest.mark.parametrize("method", ["tome", "pitome", "random"])
def test_merging_conserves_sizes_and_the_weighted_sum(method):
  if method == "random":
    reduction = select.random_merging(jax.random.key(0), 2, 12, 7)
  else:
    reduction = METHODS[method](KEYS, 7)
  before = RNG.integers(1, 4, (2, 12)).astype(np.float32)
  x, sizes = merge(reduction, X, before)
  close(sizes.sum(1), before.sum(1))
  close((x * sizes[..., None]).sum(1), (X * before[..., None]).sum(1), 1e-4)
  close(select.token_sizes(reduction).sum(1), [12, 12])


def test_pitome_takes_tokens_in_any_order():
  order = RNG.permutation(12)
  merged = lambda keys, x: merge(METHODS["pitome"](keys, 8), x)[0]
  close(as_sets(merged(KEYS, X)), as_sets(merged(KEYS[:, order], X[:, order])))


def test_unmerging_gives_each_token_what_it_went_into():
  reduction = METHODS["tome"](KEYS, 8)
  x = merge(reduction, X)[0]
  back = np.asarray(unmerge(reduction, x))
  for b, i in np.ndindex(2, 12):
    group = np.flatnonzero(np.asarray(reduction.target)[b] == reduction.target[b, i])
    close(back[b, i], X[b, group].mean(0))
  # What was one token stays one when it is put back and merged again.
  close(merge(reduction, back)[0], x)


def test_reductions_one_after_another_are_one():
  first = METHODS["tome"](KEYS, 8)
  x, sizes = merge(first, X)
  second = select.keep_only(jnp.array([[5, 0, 2], [1, 7, 6]]), 8)
  both = select.compose(first, second)
  kept = select.take(second, x), select.take(second, sizes)
  close(merge(both, X)[0], kept[0])
  close(select.token_sizes(both), kept[1])
  dropped = np.asarray(both.target) < 0
  assert dropped.any() and not unmerge(both, kept[0])[dropped].any()


def test_gradients_go_to_tokens_by_their_share_and_not_through_the_choice():
  loss = lambda x, keys: jnp.sum(merge(METHODS["tome"](keys, 8), x)[0][..., 0])
  of_x, of_keys = jax.grad(loss, (0, 1))(X, KEYS.astype(np.float32))
  reduction = METHODS["tome"](KEYS, 8)
  close(of_x[..., 0], 1 / unmerge(reduction, select.token_sizes(reduction)))
  assert not of_keys.any()


def test_means_of_bfloat16_are_formed_in_float32():
  x = jnp.full((1, 300, 1), 1.0, jnp.bfloat16).at[:, 0].set(300)
  all_in_one = select.reduction_into(jnp.zeros((1, 300), int), 1)
  merged, sizes = merge(all_in_one, x)
  # In 16 bits a sum of ones ends at 256.
  assert merged.dtype == jnp.bfloat16 and merged[0, 0, 0] == 2 and sizes[0, 0] == 300


def spectrum_distance(x, reduction):
  """Between the Laplacian's eigenvalues of a graph and of its coarsened graph, lifted back."""
  unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
  graph = np.exp(unit @ unit.T)
  groups = np.asarray(reduction.target)[0]
  member = (groups[:, None] == np.unique(groups)[None]).astype(float)
  average = member / member.sum(0)
  lifted = member @ (average.T @ graph @ average) @ member.T

  def eigenvalues(w):
    scale = w.sum(1) ** -0.5
    return np.linalg.eigvalsh(np.eye(len(w)) - w * scale[:, None] * scale[None])

  return np.abs(eigenvalues(graph) - eigenvalues(lifted)).sum()


def test_pitome_keeps_the_spectrum_of_clustered_tokens_better_than_tome():
  found = {"tome": [], "pitome": []}
  for seed in range(5):
    rng = np.random.default_rng(seed)
    # A cluster of ten, and single tokens in between at places of either parity.
    background = rng.normal(size=8)
    x = np.where(np.arange(20)[:, None] % 10 < 5, background, rng.normal(size=(20, 8)))
    x += 0.02 * rng.normal(size=x.shape)
    found["tome"].append(spectrum_distance(x, METHODS["tome"](x[None], 12)))
    reduction = select.pitome(x[None], 15, margin=0.7)
    found["pitome"].append(spectrum_distance(x, reduction))
    close(spectrum_distance(x, METHODS["tome"](x[None], 20)), 0, 1e-8)
  assert np.mean(found["pitome"]) < 0.5 * np.mean(found["tome"])


@pytest.mark.parametrize(
  "call, words",
  [
    (lambda: select.tome(KEYS, 5), ["12", "6 to 12", "left=5"]),
    (lambda: select.pitome(KEYS, 13, margin=0.5), ["12", "left=13"]),
    (lambda: select.evit(X[..., 0], 1), ["12", "2 to 12", "left=1"]),
  ],
)
def test_too_few_or_too_many_are_refused(call, words):
  with pytest.raises(ValueError) as error:
    call()
  assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)
