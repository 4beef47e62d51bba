"""Entropy of features by how a random walk over them mixes."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from repjax.arrays import at_least_float32, check_labels, check_same_shape


def diffusion_eigenvalues(
  features: jax.Array,
  *,
  sigma: float | jax.Array = 10.0,
  anisotropy: float = 0.5,
  where: jax.Array | None = None,
) -> jax.Array:
  r"""Eigenvalues of the random walk over examples, from near ones to near ones.

  .. math::
    G_{ij} = \exp\Big(-\frac{\lVert z_i - z_j \rVert^2}{2 \sigma^2}\Big), \quad
    K_{ij} = \frac{G_{ij}}{(q_i q_j)^a}, \quad q_i = \sum_j G_{ij}, \quad
    P_{ij} = \frac{K_{ij}}{\sum_k K_{ik}}

  The density :math:`q` is divided out in part, by :math:`a`; the paper has 1/2. The published code
  has the eigenvalues of :math:`a = 0`: it takes those of :math:`q_i^{-1/2} G_{ij} q_j^{-1/2}`,
  which are those of :math:`G_{ij} / q_i`, for those of P.

  Args:
    features: ``[n, dim]``.
    sigma: width of the kernel in units of the features, > 0.
    anisotropy: :math:`a`, between 0 and 1.
    where: ``[n]`` boolean, examples that take part; the others have eigenvalues of 0.

  Returns:
    ``[n]`` float32 in ascending order, the last of which is 1; all are >= 0, up to rounding. Takes
    memory ``[n, n]`` and time ``n**3``. In float32 a squared distance is good to some 1e-6 of the
    longest squared vector about the mean, which ``sigma**2`` should exceed.

  Raises:
    ValueError: if ``features`` is not rank 2 or ``where`` does not fit it.

  References:
    Liu et al., `Assessing Neural Network Representations During Training Using Noise-Resilient
    Diffusion Spectral Entropy <https://arxiv.org/abs/2312.04823>`_, 2023, section 3; its code,
    ``api/diffusion.py`` of ChenLiu-1996/DiffusionSpectralEntropy.
    Coifman and Lafon, `Diffusion maps <https://doi.org/10.1016/j.acha.2006.04.006>`_, 2006.
  """
  check_same_shape(2, features=features)
  z = at_least_float32(features)
  if where is None:
    where = jnp.ones(len(z), bool)
  if jnp.shape(where) != (len(z),):
    raise ValueError(f"expected where [n], got {jnp.shape(where)} for features {z.shape}")
  # Distances do not change, and lose fewer digits near the origin.
  z = z - jnp.mean(z, 0, keepdims=True, where=where[:, None])
  square = jnp.sum(z * z, 1)
  distance = square[:, None] + square[None] - 2 * jnp.matmul(z, z.T, precision="highest")
  kernel = jnp.exp(-jnp.maximum(distance, 0) / (2 * sigma**2))
  kernel = jnp.where(where[:, None] & where[None], kernel, 0)

  def divide(kernel, power):
    degree = jnp.sum(kernel, 1)
    degree = jnp.where(where, degree, 1) ** power
    return kernel / (degree[:, None] * degree[None])

  # A symmetric matrix that is similar to P.
  return jnp.linalg.eigvalsh(divide(divide(kernel, anisotropy), 0.5))


def diffusion_entropy(
  features: jax.Array,
  *,
  sigma: float | jax.Array = 10.0,
  t: float | jax.Array = 1.0,
  anisotropy: float = 0.5,
  trivial: bool = True,
  base: float = math.e,
  where: jax.Array | None = None,
) -> jax.Array:
  r"""Diffusion spectral entropy (DSE): how many ways a random walk over examples has not mixed.

  .. math:: -\sum_i \alpha_i \log \alpha_i, \qquad
    \alpha_i = \frac{\lvert \lambda_i \rvert^t}{\sum_j \lvert \lambda_j \rvert^t}

  for the eigenvalues of the walk. It is 0 where all examples are one point, :math:`\log k` for k
  clusters far apart as t grows, and :math:`\log n` where no example is near another. The paper's
  code counts in bits, leaves the eigenvalue 1 of the walk's rest out, and takes ``anisotropy`` 0:
  ``base=2, trivial=False, anisotropy=0``. It grows with the number of examples: compare equal ones.

  Args:
    features: ``[n, dim]``.
    sigma: width of the kernel in units of the features, > 0; 10 in the code.
    t: steps of the walk, > 0; small eigenvalues, those of noise, vanish as it grows.
    anisotropy: see `diffusion_eigenvalues`.
    trivial: whether the eigenvalue 1 that every walk has takes part.
    base: of the logarithm.
    where: ``[n]`` boolean, examples that take part; all if absent.

  Returns:
    Scalar float32 between 0 and the logarithm of n.

  Raises:
    ValueError: if ``features`` is not rank 2 or ``where`` does not fit it.

  References:
    Liu et al., `Assessing Neural Network Representations During Training Using Noise-Resilient
    Diffusion Spectral Entropy <https://arxiv.org/abs/2312.04823>`_, 2023, section 3; its code,
    ``api/dse.py`` of ChenLiu-1996/DiffusionSpectralEntropy.
  """
  values = jnp.abs(diffusion_eigenvalues(features, sigma=sigma, anisotropy=anisotropy, where=where))
  # Zeros of examples that do not take part come first, the trivial one last.
  values = (values if trivial else values[:-1]) ** t
  shares = values / jnp.maximum(jnp.sum(values), jnp.finfo(values.dtype).tiny)
  return -jnp.sum(jax.scipy.special.xlogy(shares, shares)) / math.log(base)


def diffusion_information(
  features: jax.Array,
  labels: jax.Array,
  *,
  key: jax.Array,
  classes: int,
  size: int = 256,
  repetitions: int = 5,
  sigma: float | jax.Array = 10.0,
  t: float | jax.Array = 1.0,
  anisotropy: float = 0.5,
  trivial: bool = True,
  base: float = math.e,
) -> jax.Array:
  r"""Diffusion spectral mutual information (DSMI) of features and a class.

  .. math:: \sum_y p(y) \Big(S(Z^*_y) - S(Z \mid Y = y)\Big)

  with :math:`Z^*_y` as many examples, drawn from all, as class y has, for the entropy S grows with
  their number; the code does so. For the information about an input give the cluster of each.

  Args:
    features: ``[n, dim]``.
    labels: ``[n]`` integers in ``[0, classes)``; rows labelled -1 take no part.
    key: of the draws.
    classes: number of classes.
    size: most examples looked at of a class, drawn where there are more; memory holds
      ``[repetitions, size, size]``.
    repetitions: draws of :math:`Z^*`.
    sigma: as in `diffusion_entropy`, and so the rest.
    t: steps of the walk.
    anisotropy: part of the density that is divided out.
    trivial: whether the eigenvalue 1 takes part.
    base: of the logarithm.

  Returns:
    Scalar float32; of labels without meaning near 0, on either side of it.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Liu et al., `Assessing Neural Network Representations During Training Using Noise-Resilient
    Diffusion Spectral Entropy <https://arxiv.org/abs/2312.04823>`_, 2023, section 4; its code,
    ``api/dsmi.py`` of ChenLiu-1996/DiffusionSpectralEntropy.
  """
  check_labels(labels, features=features)
  size = min(size, len(features))
  known = labels >= 0

  def entropy(key, pool, count):
    # A random order of the pool, then the rest.
    order = jnp.argsort(jax.random.uniform(key, known.shape) + ~pool)[:size]
    where = jnp.arange(size) < count
    return diffusion_entropy(
      features[order],
      sigma=sigma,
      t=t,
      anisotropy=anisotropy,
      trivial=trivial,
      base=base,
      where=where,
    )

  def gain(label):
    own, *others = jax.random.split(jax.random.fold_in(key, label), repetitions + 1)
    count = jnp.minimum(jnp.sum(labels == label), size)
    whole = jax.vmap(lambda k: entropy(k, known, count))(jnp.stack(others))
    return jnp.mean(whole) - entropy(own, labels == label, count)

  counts = jnp.sum(jax.nn.one_hot(labels, classes), 0)
  gains = lax.map(gain, jnp.arange(classes))
  return jnp.sum(jnp.where(counts > 0, counts * gains, 0)) / jnp.sum(counts)
