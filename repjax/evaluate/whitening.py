"""Features made ready for retrieval without labels: side by side, and whitened."""

import numpy as np

from repjax.evaluate.embed import Embedded, unit_rows


def concatenated(*parts: Embedded) -> Embedded:
  """Features of several encoders of the same examples, side by side.

  Args:
    *parts: features ``[n, dim]`` each, of any dims, in one order.

  Returns:
    ``[n, sum of dims]``, with the labels.

  Raises:
    ValueError: if there is no part, or the parts have different labels.

  References:
    Zhang and Bottou, `Learning useful representations for shifting tasks and distributions
    <https://arxiv.org/abs/2212.07346>`_, 2022 (nets that differ in their seed alone).
  """
  if not parts or any(not np.array_equal(part.label, parts[0].label) for part in parts):
    raise ValueError(
      f"expected parts of the same examples, got labels of {[part.label.shape for part in parts]} "
      f"that differ; encode one split in one order"
    )
  return Embedded(np.concatenate([part.features for part in parts], 1), parts[0].label)


def whitened(
  train: Embedded, test: Embedded, *, count: int, power: float = 1.0
) -> tuple[Embedded, Embedded]:
  r"""Unit vectors, whitened along the train features' directions of most variance, at unit length.

  .. math:: u = \frac{x}{\lVert x \rVert}, \quad
    w = \Lambda^{-1/2} V^\top (u - \bar u), \quad
    v = \mathrm{sign}(w) \lvert w \rvert^p, \quad y = \frac{v}{\lVert v \rVert}

  with the largest eigenvalues of the covariance and their vectors.

  Args:
    train: whose mean and covariance are taken, ``[n, dim]``.
    test: to be turned in the same way.
    count: directions kept, at most ``dim`` and less than n; those without variance are left out.
    power: p of the signed power, > 0; 1 leaves it out.

  Returns:
    Both, at most ``count`` wide.

  Raises:
    ValueError: if ``count`` is out of range.

  References:
    Razavian et al., `CNN Features off-the-shelf: an Astounding Baseline for Recognition
    <https://arxiv.org/abs/1403.6382>`_, 2014, section 4. The paper's text was not at hand: the
    steps, and their order, are from summaries of it, unverified.
  """
  size, dim = train.features.shape
  if not 1 <= count <= min(dim, size - 1) or power <= 0:
    raise ValueError(
      f"{count=} and {power=} of {size} examples of dim {dim}; choose a count from 1 to "
      f"{min(dim, size - 1)} and a power above 0"
    )
  start = unit_rows(train.features)
  mean = start.mean(0, keepdims=True)
  # By products of rows where there are fewer of them than columns.
  centred = start - mean
  if size < dim:
    value, rows = np.linalg.eigh(centred @ centred.T)
    axes = centred.T @ (rows / np.sqrt(np.maximum(value, 1e-300))[None])
  else:
    value, axes = np.linalg.eigh(centred.T @ centred)
  value, axes = value[::-1][:count], axes[:, ::-1][:, :count]
  kept = value > 1e-10 * value[0]
  turn = axes[:, kept] / np.sqrt(value[kept] / (size - 1))[None]

  def of(split):
    w = (unit_rows(split.features) - mean) @ turn
    w = unit_rows(np.sign(w) * np.abs(w) ** power)
    return split._replace(features=w.astype(np.float32))

  return of(train), of(test)
