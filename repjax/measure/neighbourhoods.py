"""Whether two representations agree on who is near whom."""

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import l2_normalize
from repjax.measure.alignment import check_pair


def mutual_knn(
  features_1: jax.Array,
  features_2: jax.Array,
  *,
  k: int,
  cosine: bool = True,
  rows: int = 256,
) -> jax.Array:
  r"""Mean share of the k nearest neighbours that two representations have in common.

  .. math::
    \frac{1}{n} \sum_i \frac{\lvert N^1_k(i) \cap N^2_k(i) \rvert}{k}

  An example is not its own neighbour; of equally near ones that of lowest index is nearer.
  Independent representations have k / (n - 1) in the mean. With few neighbours it is local where
  CKA is of the whole.

  Args:
    features_1: ``[n, dim_1]``.
    features_2: ``[n, dim_2]``, of the same examples in the same order.
    k: number of neighbours, in [1, n - 1]; 10 in the paper, of 1,024 examples.
    cosine: by cosine similarity, as the paper; otherwise by Euclidean distance.
    rows: how many examples are compared with all others at a time; memory holds ``[rows, n]``.

  Returns:
    Scalar in [0, 1], at least float32.

  Raises:
    ValueError: if shapes do not fit together or ``k`` is out of range.

  References:
    Huh et al., `The Platonic Representation Hypothesis <https://arxiv.org/abs/2405.07987>`_, 2024,
    appendix (mutual nearest-neighbor metric); features are normalised as in the authors' code.
    Cong et al., `Observatory: Characterizing Embeddings of Relational Tables
    <https://arxiv.org/abs/2310.07736>`_, 2023, section 3, property 6 (entity stability).
  """
  shared = _shared(features_1, features_2, k, cosine, rows)
  return jnp.mean(shared / k)


def neighbourhood_jaccard(
  features_1: jax.Array,
  features_2: jax.Array,
  *,
  k: int,
  cosine: bool = True,
  rows: int = 256,
) -> jax.Array:
  r"""Mean Jaccard index of the sets of k nearest neighbours in two representations.

  .. math::
    \frac{1}{n} \sum_i
    \frac{\lvert N^1_k(i) \cap N^2_k(i) \rvert}{\lvert N^1_k(i) \cup N^2_k(i) \rvert}

  Args:
    features_1: ``[n, dim_1]``.
    features_2: ``[n, dim_2]``, of the same examples in the same order.
    k: number of neighbours, in [1, n - 1].
    cosine: by cosine similarity; otherwise by Euclidean distance.
    rows: how many examples are compared with all others at a time; memory holds ``[rows, n]``.

  Returns:
    Scalar in [0, 1], at least float32; at most `mutual_knn`.

  Raises:
    ValueError: if shapes do not fit together or ``k`` is out of range.

  References:
    Moschella et al., `Relative representations enable zero-shot latent space communication
    <https://arxiv.org/abs/2209.15430>`_, 2023, section 4.1 (as a measure of latent spaces).
  """
  shared = _shared(features_1, features_2, k, cosine, rows)
  return jnp.mean(shared / (2 * k - shared))


def _shared(features_1, features_2, k, cosine, rows):
  """``[n]``: how many of the k neighbours of each example are the same."""
  x, y = check_pair(features_1, features_2)
  size = len(x)
  if not 1 <= k < size:
    raise ValueError(f"{k=} is not a number of neighbours among {size} examples; take 1 to n - 1")
  sides = [l2_normalize(z) if cosine else z - jnp.mean(z, 0)[None] for z in (x, y)]
  squares = [jnp.sum(z * z, 1) for z in sides]

  def of_one(i):
    nearest = []
    for z, square in zip(sides, squares, strict=True):
      # Half of the negative squared distance, less what is the same for all keys.
      near = jnp.matmul(z, z[i], precision="highest") - (0 if cosine else square / 2)
      nearest.append(lax.top_k(jnp.where(jnp.arange(size) == i, -jnp.inf, near), k)[1])
    return jnp.sum(nearest[0][:, None] == nearest[1][None])

  counts = lax.map(of_one, jnp.arange(size), batch_size=min(rows, size))
  return jnp.asarray(counts, x.dtype)
