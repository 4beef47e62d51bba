"""Any loss, on prefixes of the embedding too."""

import functools
import inspect
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np


def matryoshka(
  loss: Callable[..., jax.Array],
  sizes: Sequence[int],
  weights: Sequence[float] | None = None,
  *,
  embeddings: Sequence[str] | None = None,
) -> Callable[..., jax.Array]:
  r"""Makes a loss of embeddings one of their first few coordinates, at several sizes.

  .. math:: \ell(x_1, x_2, \dots) = \sum_{m} c_m \, \ell_0(x_1[:m], x_2[:m], \dots)

  A sum and not a mean, as in the paper and in sentence-transformers. A loss that normalises its
  arguments normalises each prefix, as there. Prototypes, proxies and queues, which share the
  embeddings' last axis, are cut as well: with class weights that is the paper's tied MRL-E.

  Args:
    loss: any loss of this library.
    sizes: lengths of the prefixes; list the full length too.
    weights: :math:`c_m`, one a size; 1 each if absent.
    embeddings: names of the arguments to cut, where given. By default every floating array of two
      axes or more whose last axis is as long as that of the first one, such as ``[batch, dim]``.

  Returns:
    A function with the arguments of ``loss`` and its kind of result, such as ``[batch]`` float32.

  Raises:
    ValueError: if sizes and weights do not match, the loss has no such argument or, when called, a
      size exceeds the embeddings.

  References:
    Kusupati et al., `Matryoshka Representation Learning <https://arxiv.org/abs/2205.13147>`_, 2022,
    section 3.
  """
  sizes = tuple(sizes)
  weights = (1.0,) * len(sizes) if weights is None else tuple(weights)
  if not sizes or min(sizes) < 1 or len(sizes) != len(weights):
    raise ValueError(f"expected sizes >= 1 with a weight each, got {sizes} and {weights}")
  signature = inspect.signature(loss)
  unknown = set(embeddings or ()) - set(signature.parameters)
  if unknown:
    raise ValueError(f"no arguments {sorted(unknown)}; the loss has {list(signature.parameters)}")

  @functools.wraps(loss)
  def nested(*args, **kwargs):
    arguments = signature.bind(*args, **kwargs).arguments
    names = _of_embeddings(arguments) if embeddings is None else embeddings
    names = [name for name in names if arguments.get(name) is not None]
    shapes = {name: jnp.shape(arguments[name]) for name in names}
    if not shapes or any(max(sizes) > shape[-1] for shape in shapes.values()):
      raise ValueError(f"prefixes of sizes {sizes} need embeddings as long, got {shapes}")
    total = 0.0
    for size, weight in zip(sizes, weights, strict=True):
      cut = {name: arguments[name][..., :size] for name in names}
      call = inspect.BoundArguments(signature, arguments | cut)
      total += weight * loss(*call.args, **call.kwargs)
    return total

  return nested


def _of_embeddings(arguments) -> list[str]:
  """Names of floating arrays that share the last axis of the first of two axes or more."""
  shapes = {
    name: jnp.shape(x)
    for name, x in arguments.items()
    if isinstance(x, (jax.Array, np.ndarray))
    and jnp.ndim(x) >= 2
    and jnp.issubdtype(jnp.result_type(x), jnp.floating)
  }
  first = next(iter(shapes.values()), ())
  return [name for name, shape in shapes.items() if shape[-1:] == first[-1:]]
