"""RDMs, their comparison and topology, neighbourhoods: scipy, scikit-learn, definitions."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.spatial.distance import pdist

from repjax import measure

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 6)) + 5
Y = X[:, :4] ** 2 + 3 * RNG.normal(size=(24, 4))
TURN = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
A, B = pdist(X), np.round(pdist(Y))  # the second with ties
KENDALL = jax.jit(measure.rdm_kendall, static_argnames="rows")
GEO = jax.jit(measure.geo_topological, static_argnames="rank")
TRSA = jax.jit(measure.trsa, static_argnames=("rank", "rdm", "similarity"))
OPTIONS = ("k", "cosine", "rows")
MUTUAL = jax.jit(measure.mutual_knn, static_argnames=OPTIONS)
JACCARD = jax.jit(measure.neighbourhood_jaccard, static_argnames=OPTIONS)


FROZEN = np.load(pathlib.Path(__file__).parents[1] / "oracles/frozen.npz")
# rsatoolbox's names.
COMPARATORS = {
  "cosine": measure.rdm_cosine,
  "corr": measure.rdm_pearson,
  "spearman": measure.rdm_spearman,
  "tau-a": measure.rdm_kendall,
  "cosine_cov": measure.rdm_whitened_cosine,
}


def single(*arrays):
  return [jnp.asarray(x, jnp.float32) for x in arrays]


def test_rdms_are_scipy_s_in_its_order():
  (x,) = single(X)
  np.testing.assert_allclose(measure.euclidean_rdm(x), A, rtol=1e-5)
  squared = jax.jit(measure.euclidean_rdm, static_argnames="squared")(x, squared=True)
  np.testing.assert_allclose(squared, pdist(X, "sqeuclidean"), rtol=1e-4)
  found = jax.jit(measure.correlation_rdm)(x)
  np.testing.assert_allclose(found, pdist(X, "correlation"), rtol=1e-4)
  np.testing.assert_allclose(measure.euclidean_rdm(x @ single(TURN)[0] + 9), A, rtol=1e-4)
  np.testing.assert_allclose(measure.correlation_rdm(3 * x - 1), found, rtol=1e-4)


@pytest.mark.parametrize("name", COMPARATORS)
def test_comparators_are_rsatoolbox_s(name):
  rdms = single(FROZEN["rsatoolbox/rdm_1"], FROZEN["rsatoolbox/rdm_2"])
  found = jax.jit(COMPARATORS[name])(*rdms)
  np.testing.assert_allclose(found, FROZEN[f"rsatoolbox/{name}"], rtol=1e-4)


def test_comparators_are_scipy_s():
  a, b = single(A, B)
  cosine = A @ B / np.linalg.norm(A) / np.linalg.norm(B)
  np.testing.assert_allclose(measure.rdm_cosine(a, b), cosine, rtol=1e-5)
  pearson, spearman = scipy.stats.pearsonr(A, B).statistic, scipy.stats.spearmanr(A, B).statistic
  np.testing.assert_allclose(jax.jit(measure.rdm_pearson)(a, b), pearson, rtol=1e-4)
  np.testing.assert_allclose(jax.jit(measure.rdm_spearman)(a, b), spearman, rtol=1e-4)
  np.testing.assert_array_equal(measure.ranks(b), scipy.stats.rankdata(B))


def test_kendall_s_tau_a_does_not_correct_for_ties():
  sign = lambda v: np.sign(v[:, None] - v[None])
  truth = np.sum(np.triu(sign(A) * sign(B))) / (len(A) * (len(A) - 1) / 2)
  np.testing.assert_allclose(KENDALL(*single(A, B)), truth, rtol=1e-5)
  np.testing.assert_allclose(KENDALL(*single(A, B), rows=100), truth, rtol=1e-5)
  without = A + 0.3 * pdist(Y)
  tau = scipy.stats.kendalltau(A, without).statistic
  np.testing.assert_allclose(KENDALL(*single(A, without)), tau, rtol=1e-4)
  assert truth < scipy.stats.kendalltau(A, B).statistic


def test_monotone_maps_change_no_comparison_of_ranks():
  a, b = single(A, pdist(Y))
  np.testing.assert_allclose(measure.rdm_spearman(a**3, b), measure.rdm_spearman(a, b), rtol=1e-5)
  np.testing.assert_allclose(KENDALL(jnp.sqrt(a), b), KENDALL(a, b), rtol=1e-5)
  np.testing.assert_allclose(
    measure.rdm_pearson(3 * a + 2, b), measure.rdm_pearson(a, b), rtol=1e-4
  )


def test_whitened_cosine_is_its_definition_and_biased_linear_cka():
  a, b = pdist(X, "sqeuclidean"), pdist(Y, "sqeuclidean")
  first, second = np.triu_indices(24, 1)
  contrast = np.eye(24)[first] - np.eye(24)[second]
  inverse = np.linalg.inv((contrast @ contrast.T) ** 2)
  inner = lambda u, v: u @ inverse @ v
  truth = inner(a, b) / np.sqrt(inner(a, a) * inner(b, b))
  found = measure.rdm_whitened_cosine(*single(a, b))
  np.testing.assert_allclose(found, truth, rtol=1e-4)
  np.testing.assert_allclose(measure.linear_cka(*single(X, Y), unbiased=False), truth, rtol=1e-4)
  with pytest.raises(ValueError, match=r"5 dissimilarities are not n \(n - 1\) / 2"):
    measure.rdm_whitened_cosine(jnp.ones(5), jnp.ones(5))


@pytest.mark.parametrize("rank", [False, True])
def test_geo_topological_values_are_clipped_between_their_quantiles(rank):
  d = scipy.stats.rankdata(B) if rank else B
  lower, upper = np.quantile(d, (0.2, 0.7))
  truth = np.where(d < lower, 0, np.where(d > upper, 1, (d - lower) / (upper - lower)))
  np.testing.assert_allclose(GEO(single(B)[0], 0.2, 0.7, rank=rank), truth, atol=1e-5)


def test_geo_topological_values_go_from_geometry_to_a_graph():
  (a,) = single(A)
  np.testing.assert_allclose(GEO(a, 0.0, 1.0), (A - A.min()) / np.ptp(A), atol=1e-5)
  np.testing.assert_array_equal(GEO(a, 0.3, 0.3), np.quantile(A, 0.3) < A)
  np.testing.assert_allclose(GEO(50 * a + 3, 0.2, 0.7), GEO(a, 0.2, 0.7), atol=1e-4)


def test_trsa_of_all_quantiles_is_rsa_and_sees_no_turn_and_scale():
  x, y = single(X, Y)
  rsa = scipy.stats.pearsonr(pdist(X), pdist(Y)).statistic
  np.testing.assert_allclose(TRSA(x, y, low=0.0, high=1.0), rsa, rtol=1e-4)
  value = TRSA(x, y, low=0.1, high=0.6)
  clipped = [np.clip(d, *np.quantile(d, (0.1, 0.6))) for d in (pdist(X), pdist(Y))]
  np.testing.assert_allclose(value, scipy.stats.pearsonr(*clipped).statistic, rtol=1e-3)
  np.testing.assert_allclose(TRSA(x @ single(TURN)[0] * 4, y, low=0.1, high=0.6), value, rtol=1e-3)


def neighbours(x, k, metric):
  from sklearn.neighbors import NearestNeighbors

  found = NearestNeighbors(n_neighbors=k, metric=metric).fit(x)
  return [set(row) for row in found.kneighbors(return_distance=False)]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbourhoods_are_scikit_learn_s_whatever_the_tile(metric):
  pairs = list(zip(neighbours(X, 5, metric), neighbours(Y, 5, metric), strict=True))
  options = {"k": 5, "cosine": metric == "cosine"}
  truth = np.mean([len(a & b) / 5 for a, b in pairs])
  np.testing.assert_allclose(MUTUAL(*single(X, Y), **options), truth, rtol=1e-5)
  np.testing.assert_allclose(MUTUAL(*single(X, Y), rows=7, **options), truth, rtol=1e-5)
  truth = np.mean([len(a & b) / len(a | b) for a, b in pairs])
  np.testing.assert_allclose(JACCARD(*single(X, Y), **options), truth, rtol=1e-5)


def test_an_example_is_not_its_own_neighbour():
  # Pairs of neighbours in one representation that are strangers in the other.
  line = np.arange(8.0)[:, None]
  apart = np.array([0, 4, 1, 5, 2, 6, 3, 7.0])[:, None] * 10 + [[0.0, 0.1]]
  pairs = np.repeat(np.arange(4.0), 2)[:, None] * 100 + line % 2
  assert MUTUAL(*single(pairs, apart), k=1, cosine=False) == 0
  assert MUTUAL(*single(pairs, -3 * pairs + 1), k=1, cosine=False) == 1


def test_independent_representations_share_k_of_the_others():
  draws = [np.random.default_rng(i).normal(size=(2, 200, 8)) for i in range(8)]
  mean = np.mean([MUTUAL(*single(*pair), k=10) for pair in draws])
  np.testing.assert_allclose(mean, 10 / 199, atol=0.006)


def test_what_does_not_fit_is_said_in_a_line():
  a, b = single(A, B)
  with pytest.raises(ValueError, match=r"condensed RDMs .* got .*\(276,\).*\(275,\)"):
    measure.rdm_cosine(a, b[1:])
  with pytest.raises(ValueError, match="hold no pair"):
    measure.euclidean_rdm(jnp.ones((1, 3)))
  with pytest.raises(ValueError, match="k=24 is not a number of neighbours among 24"):
    measure.mutual_knn(*single(X, Y), k=24)
  assert measure.rdm_pearson(a, jnp.ones(276)) == 0
