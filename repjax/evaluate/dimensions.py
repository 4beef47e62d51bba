"""What features lose when they are cut short, and how their variance is spread."""

from collections.abc import Sequence

import numpy as np

from repjax.evaluate.embed import Embedded
from repjax.evaluate.knn import knn
from repjax.evaluate.pictures import Series


def first_dimensions(train: Embedded, test: Embedded, *, count: int) -> tuple[Embedded, Embedded]:
  """The first dimensions, as Matryoshka features are cut.

  Args:
    train: of any width.
    test: of the same width.
    count: how many to keep, at most the width.

  Returns:
    Both, cut.
  """
  return tuple(x._replace(features=x.features[:, :count]) for x in (train, test))


def accuracy_by_dimension(
  train: Embedded,
  test: Embedded,
  *,
  sizes: Sequence[int] | None = None,
  k: int = 20,
) -> Series:
  """Accuracy of the first dimensions alone: of `projected` features, those of most variance.

  Args:
    train: the bank.
    test: examples to classify.
    sizes: how many to keep; powers of two up to the width, and the width, if absent.
    k: nearest train examples that vote, see `knn`.

  Returns:
    Sizes and accuracies, ``[sizes]`` each.

  Raises:
    ValueError: if a size is not within the width, or ``k`` larger than the bank.

  References:
    Kusupati et al., `Matryoshka Representation Learning <https://arxiv.org/abs/2205.13147>`_, 2022,
    section 4.
  """
  width = train.features.shape[1]
  if sizes is None:
    sizes = [*(2**i for i in range(width.bit_length()) if 2**i < width), width]
  if min(sizes) < 1 or max(sizes) > width:
    raise ValueError(f"sizes={list(sizes)} are not all from 1 to {width}, which the features have")
  scores = [knn(*first_dimensions(train, test, count=size), k=(k,))[f"knn_{k}"] for size in sizes]
  return np.array(sizes, float), np.array(scores)


def variance_curve(features: np.ndarray) -> Series:
  """Shares of the variance along principal directions, the largest first, in logarithms.

  Args:
    features: ``[n, dim]``.

  Returns:
    Base-10 logarithms of the rank, from 1, and of the share, down to a millionth of the largest.
  """
  x = np.asarray(features, np.float64)
  x = x - x.mean(0)
  # In float64 the smaller of both products has the digits that are shown, and takes far less time.
  product = x.T @ x if x.shape[1] <= len(x) else x @ x.T
  values = np.linalg.eigvalsh(product)[::-1]
  values = values[values > 1e-6 * values[0]]
  return np.log10(np.arange(1, len(values) + 1)), np.log10(values / values.sum())
