"""Losses that ask for another encoder's tokens instead of the input itself."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from repjax.arrays import (
  at_least_float32,
  check_mask,
  check_same_shape,
  l2_normalize,
  masked_mean,
  smooth_l1,
  standardize,
)
from repjax.losses.distill import attention_kl


def latent_prediction(
  prediction: jax.Array,
  target: jax.Array,
  mask: jax.Array | None = None,
  *,
  norm: str = "smooth_l1",
  beta: float = 1.0,
  normalize_target: bool = False,
) -> jax.Array:
  r"""Error of predicted tokens of a teacher, where they were hidden.

  .. math::
    \ell = \frac{1}{|M|\,d} \sum_{t \in M} \sum_{c=1}^{d} \rho(\hat s_{tc} - s_{tc}), \quad
    \rho_\text{smooth}(e) = \begin{cases} e^2 / 2\beta & |e| < \beta \\
      |e| - \beta / 2 & \text{otherwise} \end{cases}

  I-JEPA states a squared error; its code takes the smooth absolute one of the defaults, with
  ``normalize_target=True``. V-JEPA takes ``norm="l1"``. data2vec in fairseq multiplies by
  :math:`\sqrt d`. No gradient reaches ``target``.

  Args:
    prediction: ``[batch, tokens, dim]``.
    target: the teacher's tokens, same shape.
    mask: which tokens count, ``[batch, tokens]`` bool; all if absent, as where those that were
      hidden have been picked out before.
    norm: ``"l1"``, ``"l2"`` (squared) or ``"smooth_l1"``.
    beta: where the smooth error turns from squared to absolute, > 0.
    normalize_target: standardise each target token, a layer norm without parameters (biased
      variance, 1e-5 under the root).

  Returns:
    Loss per example, ``[batch]`` float32, >= 0; 0 where no token counts.

  Raises:
    ValueError: if shapes do not match or ``norm`` is unknown.

  References:
    Assran et al., `Self-Supervised Learning from Images with a Joint-Embedding Predictive
    Architecture <https://arxiv.org/abs/2301.08243>`_, 2023, section 3.
    Baevski et al., `data2vec: A General Framework for Self-supervised Learning in Speech, Vision
    and Language <https://arxiv.org/abs/2202.03555>`_, 2022, section 3.
    Bardes et al., `Revisiting Feature Prediction for Learning Visual Representations from Video
    <https://arxiv.org/abs/2404.08471>`_, 2024, section 3.
  """
  check_same_shape(3, prediction=prediction, target=target)
  if mask is not None:
    check_mask(mask, jnp.shape(target)[:2])
  if norm not in ("l1", "l2", "smooth_l1"):
    raise ValueError(f"norm={norm!r} is unknown; choose 'l1', 'l2' or 'smooth_l1'")
  prediction, target = at_least_float32(prediction), at_least_float32(target)
  target = lax.stop_gradient(target)
  if normalize_target:
    target = standardize(target)
  error = prediction - target
  if norm == "smooth_l1":
    error = smooth_l1(error, beta)
  else:  # the gradient of a product with the sign is 0 where there is no error
    error = error * (jnp.sign(error) if norm == "l1" else error)
  return masked_mean(jnp.mean(error, -1), mask, axis=1)


def dmt_targets(
  tokens: jax.Array,
  grid: tuple[int, int],
  *,
  window: int = 3,
  neighbors: int = 4,
  aggregate: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> jax.Array:
  r"""Targets for `latent_prediction`: each patch is replaced by the neighbours most like it.

  Of the patches in a window around patch i, those with the highest cosine similarity to it are
  aggregated by attention:

  .. math::
    P_i = \operatorname*{top-k}_{j \in W_i} \cos(s_i, s_j), \qquad
    \hat s_i = \sum_{j \in P_i} \operatorname*{softmax}_{j \in P_i}
      \left(\frac{\langle s_i, s_j\rangle}{\sqrt d}\right) s_j

  The authors learn the aggregation, two blocks of cross-attention of which the teacher has a moving
  average: give such a head as ``aggregate``. Without one, the attention has no parameters. As in
  their code the grid wraps around, so that a corner has as many neighbours as any patch. No
  gradient reaches ``tokens``.

  Args:
    tokens: the teacher's patch tokens in raster order, ``[batch, tokens, dim]``; I-JEPA's layer
      norm is applied before.
    grid: height and width in patches.
    window: edge of the square in which neighbours are looked for, odd, >= 3.
    neighbors: how many are chosen.
    aggregate: ``(tokens, chosen) -> targets``, ``chosen`` of ``[batch, tokens, neighbors, dim]``.

  Returns:
    Targets, ``[batch, tokens, dim]`` float32.

  Raises:
    ValueError: if the grid does not hold the tokens, or the window not the neighbours, or is even.

  References:
    Mo and Yun, `DMT-JEPA: Discriminative Masked Targets for Joint-Embedding Predictive Architecture
    <https://arxiv.org/abs/2405.17995>`_, 2024, section 3.
  """
  check_same_shape(3, tokens=tokens)
  if grid[0] * grid[1] != jnp.shape(tokens)[1]:
    raise ValueError(f"grid={grid} does not hold the tokens of {jnp.shape(tokens)}")
  if window % 2 == 0:
    raise ValueError(f"window={window} is even; a patch is in the middle of an odd one")
  near = _neighborhoods(grid, window)
  if neighbors > near[0].sum():
    raise ValueError(f"neighbors={neighbors} of {near[0].sum()} in window={window} of grid={grid}")
  tokens = lax.stop_gradient(at_least_float32(tokens))
  unit = l2_normalize(tokens)
  similarity = jnp.einsum("bid,bjd->bij", unit, unit, precision="highest")
  _, index = lax.top_k(jnp.where(near[None], similarity, -jnp.inf), neighbors)
  chosen = jax.vmap(lambda x, i: x[i])(tokens, index)
  return lax.stop_gradient((aggregate or _attend)(tokens, chosen))


def token_relation(
  student_query: jax.Array,
  student_key: jax.Array,
  teacher_query: jax.Array,
  teacher_key: jax.Array,
  mask: jax.Array | None = None,
) -> jax.Array:
  r"""How the tokens of an image relate to one another, matched to a teacher's relations.

  .. math::
    \ell = \frac{1}{h n} \sum_{a=1}^{h} \sum_{i=1}^{n} \operatorname{KL}\!\left(
      \operatorname{softmax}_j \frac{\langle q^T_{ai}, k^T_{aj}\rangle}{\sqrt{d_T}} \,\middle\|\,
      \operatorname{softmax}_j \frac{\langle q^S_{ai}, k^S_{aj}\rangle}{\sqrt{d_S}}\right)

  Queries and keys give the relations of attention; values as both give the value relations of
  MiniLM. Hybrid Distill adds such relations of a masked-image teacher to `latent_prediction` of the
  tokens of a contrastive or supervised one, over the tokens that it has not dropped as redundant;
  its code is not public, and the form of the divergence is MiniLM's. Dimensions may differ. No
  gradient reaches the teacher.

  Args:
    student_query: ``[batch, heads, tokens, dim]``, any number of axes in the place of heads.
    student_key: same shape.
    teacher_query: same shape up to the last axis.
    teacher_key: same shape as ``teacher_query``.
    mask: which tokens take part, ``[batch, tokens]`` bool; all if absent.

  Returns:
    Loss per example, ``[batch]`` float32, >= 0; 0 where no token takes part.

  Raises:
    ValueError: if the shapes do not match.

  References:
    Shi et al., `Hybrid Distillation: Connecting Masked Autoencoders with Contrastive Learners
    <https://arxiv.org/abs/2306.15876>`_, 2023.
    Wang et al., `MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
    Pre-Trained Transformers <https://arxiv.org/abs/2002.10957>`_, 2020, section 3.
  """
  rank = max(3, jnp.ndim(student_query))
  check_same_shape(rank, student_query=student_query, student_key=student_key)
  check_same_shape(rank, teacher_query=teacher_query, teacher_key=teacher_key)

  def logits(query, key):
    query, key = at_least_float32(query), at_least_float32(key)
    products = jnp.einsum("...id,...jd->...ij", query, key, precision="highest")
    return products / query.shape[-1] ** 0.5

  student, teacher = logits(student_query, student_key), logits(teacher_query, teacher_key)
  return attention_kl(student, teacher, mask)


def unmasked_alignment(
  student: jax.Array, teacher: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
  r"""Distance of a student's unit tokens from a teacher's, at the tokens that were not hidden.

  .. math::
    \ell = \frac{1}{|V|} \sum_{t \in V} \left\lVert \frac{s_t}{\lVert s_t\rVert}
      - \frac{z_t}{\lVert z_t\rVert} \right\rVert^2, \qquad V = \{t : t \notin M\}

  Two minus twice the cosine, as in the authors' code by default; its mean squared error divides by
  the dimension. Over several layers the caller takes the mean. No gradient reaches the teacher.

  Args:
    student: the student's tokens, projected to the teacher's dimension, ``[batch, tokens, dim]``;
      normalised inside.
    teacher: the teacher's tokens at the same places, same shape; normalised inside.
    mask: what was hidden, ``[batch, tokens]`` bool; nothing if absent, as where the visible tokens
      have been picked out before.

  Returns:
    Loss per example, ``[batch]`` float32, in [0, 4]; 0 where everything is masked.

  Raises:
    ValueError: if shapes do not match.

  References:
    Li et al., `Unmasked Teacher: Towards Training-Efficient Video Foundation Models
    <https://arxiv.org/abs/2303.16058>`_, 2023, section 3.
  """
  check_same_shape(3, student=student, teacher=teacher)
  visible = None
  if mask is not None:
    check_mask(mask, jnp.shape(teacher)[:2])
    visible = jnp.logical_not(mask)
  student, teacher = (l2_normalize(at_least_float32(x)) for x in (student, teacher))
  error = jnp.sum((student - lax.stop_gradient(teacher)) ** 2, -1)
  return masked_mean(error, visible, axis=1)


def _neighborhoods(grid, window) -> np.ndarray:
  """Which patches are in the window around each, ``[tokens, tokens]``; not the patch itself."""

  def near(at, size):
    apart = np.abs(at[:, None] - at[None, :])
    return np.minimum(apart, size - apart) <= window // 2

  row, column = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
  return near(row, grid[0]) & near(column, grid[1]) & ~np.eye(len(row), dtype=bool)


def _attend(query, values) -> jax.Array:
  logits = jnp.einsum("btd,btkd->btk", query, values, precision="highest")
  weights = jax.nn.softmax(logits / query.shape[-1] ** 0.5)
  return jnp.einsum("btk,btkd->btd", weights, values, precision="highest")
