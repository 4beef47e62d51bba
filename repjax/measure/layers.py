"""A measure between all layers of two nets."""

from collections.abc import Callable, Sequence

import jax
import numpy as np


def similarity_matrix(
  layers_1: Sequence[np.ndarray],
  layers_2: Sequence[np.ndarray],
  measure: Callable[[jax.Array, jax.Array], jax.Array],
) -> np.ndarray:
  """Compares every layer of a net with every layer of another on the same examples.

  Args:
    layers_1: ``[n, ...]`` each; all but the first axis are flattened.
    layers_2: ``[n, ...]`` each, of the same examples in the same order.
    measure: ``([n, dim_1], [n, dim_2]) -> scalar``, such as ``functools.partial(linear_cka,
      unbiased=True)``; compiled here, once for each pair of widths.

  Returns:
    ``[len(layers_1), len(layers_2)]`` float32, on the host.

  Raises:
    ValueError: if layers are not of as many examples.
  """
  sizes = {len(x) for x in (*layers_1, *layers_2)}
  if len(sizes) != 1:
    raise ValueError(f"expected layers of the same examples, got {sorted(sizes)} of them")
  measure = jax.jit(measure)
  first, second = ([np.reshape(x, (len(x), -1)) for x in layers] for layers in (layers_1, layers_2))
  return np.array([[measure(x, y) for y in second] for x in first], np.float32)
