"""Classes found without labels: what shifts together between domains is one class."""

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class LatentShift(NamedTuple):
  """Mixtures of latent classes by domain.

  Attributes:
    class_given_domain: p(y | d), ``[domains, classes]`` float32, rows that sum to 1.
    domain_given_class: p(d | y), ``[domains, classes]`` float32, columns that sum to 1.
  """

  class_given_domain: jax.Array
  domain_given_class: jax.Array


def fit_latent_shift(
  probabilities: np.ndarray,
  domain: np.ndarray,
  *,
  classes: int,
  cells: int,
  seed: int,
  restarts: int = 10,
) -> LatentShift:
  r"""Finds the mixture of latent classes in each domain (DDFA), on the host.

  Examples are put into cells by k-means of what a domain discriminator says of them; classes
  are the factors of how often the cells are in the domains:

  .. math:: p(\text{cell} \mid d) = \sum_y p(\text{cell} \mid y) \, p(y \mid d)

  Each class needs inputs that no other has, and the mixtures have to differ. The factors are those
  of non-negative matrix factorisation by least squares, as in the authors' code; of several random
  starts, where that has one, those of least error are kept. Nothing in it looks for inputs of one
  class alone: it is certain only where also some domains have hardly more than one class, as
  with sparse mixtures; otherwise mixtures come out more extreme than they are.

  Args:
    probabilities: p(d | x) by the discriminator, ``[n, domains]``, best of examples that it was not
      trained on.
    domain: ``[n]`` int, the domain of each example.
    classes: how many latent classes there are, at most ``domains`` and ``cells``.
    cells: of the discrete space, more than classes.
    seed: of k-means and of the factorisation.
    restarts: of the factorisation.

  Returns:
    The mixtures; the order of the classes means nothing. p(d | y) follows from p(y | d) and from
    how many examples the domains have.

  Raises:
    ValueError: if there are more classes than cells or domains, or a domain has no example.

  References:
    Roberts et al., `Unsupervised Learning under Latent Label Shift
    <https://arxiv.org/abs/2207.13179>`_, 2022, algorithm 1.
  """
  from sklearn.cluster import KMeans
  from sklearn.decomposition import NMF
  from sklearn.exceptions import ConvergenceWarning

  probabilities = np.asarray(probabilities, np.float32)
  domains = probabilities.shape[1]
  count = np.bincount(domain, minlength=domains)
  if classes > min(cells, domains) or len(count) > domains or not count.all():
    raise ValueError(
      f"cannot find classes={classes} by cells={cells} in domains of {count.tolist()} examples, of "
      f"which {domains} have a probability; take as many cells and domains as classes or more"
    )
  cell = KMeans(cells, n_init=3, random_state=seed).fit_predict(probabilities)
  table = np.zeros((domains, cells))
  np.add.at(table, (domain, cell), 1)
  table /= count[:, None]
  best = None
  for restart in range(restarts):
    model = NMF(classes, init="random", random_state=seed + restart, max_iter=2000, tol=1e-6)
    with warnings.catch_warnings():
      # The best of several starts is good enough where the last steps are slow.
      warnings.simplefilter("ignore", ConvergenceWarning)
      mixture = model.fit_transform(table)
    if best is None or model.reconstruction_err_ < best[0]:
      best = model.reconstruction_err_, mixture * model.components_.sum(1)[None]
  mixture = np.maximum(best[1], 1e-12)
  mixture /= mixture.sum(1, keepdims=True)
  joint = mixture * (count / count.sum())[:, None]
  of_domain = joint / joint.sum(0, keepdims=True)
  return LatentShift(jnp.asarray(mixture, jnp.float32), jnp.asarray(of_domain, jnp.float32))


def latent_shift_logits(
  shift: LatentShift, probabilities: jax.Array, domain: jax.Array
) -> jax.Array:
  r"""Which latent class an example has, in the light of its domain.

  p(y | x) solves :math:`p(d \mid x) = \sum_y p(d \mid y) \, p(y \mid x)` by least squares, and

  .. math:: p(y \mid x, d) \propto p(d \mid y) \, p(y \mid x)

  Args:
    shift: from `fit_latent_shift`.
    probabilities: p(d | x) by the discriminator, ``[batch, domains]``.
    domain: ``[batch]`` int, the domain of each example.

  Returns:
    ``[batch, classes]`` float32, whose softmax is p(y | x, d); where the solution is not positive,
    it is taken as 1e-6.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Roberts et al., `Unsupervised Learning under Latent Label Shift
    <https://arxiv.org/abs/2207.13179>`_, 2022, section 5; ``solve_p_y_x`` and ``solve_p_y_x_d`` of
    https://github.com/acmi-lab/Latent-Label-Shift-DDFA.
  """
  by_class = shift.domain_given_class
  if probabilities.ndim != 2 or probabilities.shape != (len(domain), len(by_class)):
    raise ValueError(
      f"expected probabilities [batch, {len(by_class)}] and domain [batch], got "
      f"{jnp.shape(probabilities)} and {jnp.shape(domain)}"
    )
  inverse = jnp.linalg.pinv(by_class)
  of_class = jnp.matmul(probabilities, inverse.T, precision="highest")
  return jnp.log(jnp.maximum(of_class, 1e-6)) + jnp.log(by_class[domain])
