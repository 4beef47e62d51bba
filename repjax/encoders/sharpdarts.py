"""sharpDARTS: cells whose operations are searched by gradient, and nets of those found."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike

from repjax.arrays import split_batch
from repjax.encoders.batch_norm import batch_norm
from repjax.encoders.convolution import convolve
from repjax.encoders.features import Features
from repjax.encoders.stages import check_image

Tree = Any


class Sharp(NamedTuple):
  """Settings of a `SharpSepConv`: side, dilation, width in the middle over that of the output."""

  kernel: int
  dilation: int = 1
  middle: float = 1.0


#: What an edge may do. Strings are operations without weights; ``none`` is never derived.
OPERATIONS = {
  "none": "none",
  "skip": "skip",
  "max_pool_3x3": "max_pool",
  "sep_conv_3x3": Sharp(3),
  "sep_conv_5x5": Sharp(5),
  "dil_conv_3x3": Sharp(3, dilation=2),
  "flood_conv_3x3": Sharp(3, middle=4.0),
  "choke_conv_3x3": Sharp(3, middle=0.25),
}


class Genotype(NamedTuple):
  """A found cell of either kind: for each node, its operations and the nodes that they read.

  Nodes count from the cell's two inputs, 0 and 1.
  """

  normal: tuple[tuple[tuple[str, int], ...], ...]
  reduce: tuple[tuple[tuple[str, int], ...], ...]


class SharpSepConv(nn.Module):
  """Two separable convolutions, each behind a ReLU; stride and dilation are the first's.

  Attributes:
    features: channels of the result.
    settings: side, dilation, and width in the middle.
    stride: of the result.
    norm: makes a batch norm of a name.
    dtype: of the computation.

  References:
    Hundt, Jain, Hager, `sharpDARTS: Faster and More Accurate Differentiable Architecture Search
    <https://arxiv.org/abs/1903.09900>`_, 2019, section 3; ``cnn/operations.py`` of
    https://github.com/ahundt/sharpDARTS.
  """

  features: int
  settings: Sharp
  stride: int
  norm: functools.partial
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, height, width, channels]`` to ``[batch, height / stride, ..., features]``."""
    kernel, dilation, middle = self.settings
    plan = [
      (max(int(self.features * middle), 1), self.stride, dilation),
      (self.features, 1, 1),
    ]
    for i, (width, stride, rate) in enumerate(plan):
      channels, reach = x.shape[-1], rate * (kernel // 2)
      x = nn.Conv(
        channels, (kernel, kernel), (stride, stride), reach, kernel_dilation=(rate, rate),
        feature_group_count=channels, use_bias=False, dtype=self.dtype, name=f"depthwise_{i}",
        conv_general_dilated=convolve,
      )(nn.relu(x))  # fmt: skip
      x = nn.Conv(
        width, (1, 1), use_bias=False, dtype=self.dtype, name=f"pointwise_{i}",
        conv_general_dilated=convolve,
      )(x)  # fmt: skip
      x = self.norm(name=f"norm_{i}")(x)
    return x


def mixing_weights(alphas: jax.Array, *, max_w: bool) -> jax.Array:
  r"""What an edge multiplies its operations by.

  .. math:: w = \operatorname{softmax}(\alpha), \quad
            w^{\text{max}}_o = 1 - \operatorname{sg}(\max_i w_i) + w_o

  With Max-W the leading operation counts fully, so that raising its share cannot be a way of
  raising all of an edge; no gradient goes through the maximum.

  Args:
    alphas: ``[..., operations]``.
    max_w: whether Max-W regularisation is on.

  Returns:
    Same shape as ``alphas``.

  References:
    Hundt et al., 2019, section 5; here the maximum is an edge's, that of the authors' search over
    widths is a layer's (``cnn/model_search.py``).
  """
  weights = jax.nn.softmax(alphas)
  if max_w:
    weights = 1 - lax.stop_gradient(jnp.max(weights, -1, keepdims=True)) + weights
  return weights


class CellNet(nn.Module):
  """A stack of cells: of all operations side by side, or, with a genotype, of those it names.

  Each cell reads the two before it. At a third and two thirds of the depth, reducing cells halve
  the map and double the width. Parameters ``alphas_normal`` and ``alphas_reduce`` choose; DARTS
  descends them on other examples than the weights.

  Attributes:
    genotype: the cells; the search space if absent.
    width: channels of a node in the first cells.
    cells: how many.
    nodes: of a cell of the search space, between its inputs and its output.
    operations: of the search space, keys of `OPERATIONS`.
    max_w: Max-W regularisation, see `mixing_weights`.
    affine: whether norms have scale and bias; DARTS searches without.
    momentum: share of the running statistics kept at each step of training.
    axis_name: mapped axis that holds the other shards of a batch, if any.
    dtype: of the computation; parameters and statistics are float32.

  References:
    Liu, Simonyan, Yang, `DARTS: Differentiable Architecture Search
    <https://arxiv.org/abs/1806.09055>`_, 2018, section 2.
    Hundt et al., `sharpDARTS <https://arxiv.org/abs/1903.09900>`_, 2019.
  """

  genotype: Genotype | None = None
  width: int = 16
  cells: int = 3
  nodes: int = 2
  operations: tuple[str, ...] = ("none", "skip", "max_pool_3x3", "sep_conv_3x3", "flood_conv_3x3")
  max_w: bool = True
  affine: bool = False
  momentum: float = 0.9
  axis_name: str | None = None
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> Features:
    """Encodes images.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: whether batch norm uses the batch's statistics, and updates the running ones in the
        collection ``batch_stats``.

    Returns:
      Features; ``pooled`` is the mean over the last map, ``tokens`` that map in raster order, and
      ``layers`` each cell's map.

    Raises:
      ValueError: if ``image`` is not rank 4 or an operation is unknown.
    """
    check_image(image)
    unknown = sorted(set(self._named()) - set(OPERATIONS))
    if unknown:
      raise ValueError(f"unknown operations {unknown}; choose of {', '.join(OPERATIONS)}")
    norm = batch_norm(self, train, use_scale=self.affine, use_bias=self.affine)
    weights = None if self.genotype else self._weights()
    x = nn.Conv(3 * self.width, (3, 3), use_bias=False, dtype=self.dtype, name="stem")(image)
    before = x = norm(name="stem_norm")(x)
    layers, width = [], self.width
    for i in range(self.cells):
      kind = "reduce" if i and i in (self.cells // 3, 2 * self.cells // 3) else "normal"
      width *= 2 if kind == "reduce" else 1
      cell = functools.partial(self._cell, norm, f"cell_{i}", kind, width)
      before, x = x, cell(split_batch(before), x, weights and weights[kind])
      layers.append(x)
    return Features(jnp.mean(x, (1, 2)), x.reshape(len(x), -1, x.shape[-1]), tuple(layers))

  def _named(self):
    if self.genotype is None:
      return self.operations
    return [name for cell in self.genotype for node in cell for name, _ in node]

  def _weights(self):
    shape = (self.nodes * (self.nodes + 3) // 2, len(self.operations))
    init = nn.initializers.normal(1e-3)
    alphas = {kind: self.param(f"alphas_{kind}", init, shape) for kind in Genotype._fields}
    return {kind: mixing_weights(x, max_w=self.max_w) for kind, x in alphas.items()}

  def _cell(self, norm, name, kind, width, before, x, weights):
    states = [
      _fit(norm, self.dtype, y, width, shrink=y.shape[1] // x.shape[1], name=f"{name}_input_{j}")
      for j, y in enumerate((before, x))
    ]

    def edge(i, j, operation):
      stride = 2 if kind == "reduce" and j < 2 else 1
      label = f"{name}_node_{i}_from_{j}_{operation}"
      return _operate(norm, self.dtype, OPERATIONS[operation], states[j], stride, label)

    if self.genotype:
      for i, node in enumerate(getattr(self.genotype, kind)):
        states.append(sum(edge(i, j, operation) for operation, j in node))
    else:
      row = 0
      for i in range(self.nodes):
        total = 0
        for j in range(i + 2):
          scales = zip(weights[row], self.operations, strict=True)
          parts = [(w.astype(self.dtype), edge(i, j, o)) for w, o in scales if o != "none"]
          total += sum(w * y for w, y in parts)
          row += 1
        states.append(total)
    return jnp.concatenate(states[2:], -1)


def derive_cells(params: Tree, operations: tuple[str, ...]) -> Genotype:
  """The cells that a search has found: each node's two strongest inputs by their best operations.

  Args:
    params: of a `CellNet` without genotype.
    operations: its operations.

  Returns:
    The cells.
  """
  chosen = [i for i, name in enumerate(operations) if name != "none"]

  def cell(alphas):
    weights = jax.device_get(jax.nn.softmax(alphas))[:, chosen]
    nodes, row = [], 0
    while row < len(weights):
      edges = weights[row : row + len(nodes) + 2]
      best = sorted(range(len(edges)), key=lambda j: -edges[j].max())[:2]
      nodes.append(tuple((operations[chosen[edges[j].argmax()]], j) for j in sorted(best)))
      row += len(edges)
    return tuple(nodes)

  return Genotype(cell(params["alphas_normal"]), cell(params["alphas_reduce"]))


def _operate(norm, dtype, operation, x, stride, name):
  if isinstance(operation, Sharp):
    return SharpSepConv(x.shape[-1], operation, stride, norm, dtype, name=name)(x)
  if operation == "max_pool":
    pooled = nn.max_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)))
    return norm(name=f"{name}_norm")(pooled)
  return x if stride == 1 else _fit(norm, dtype, x, x.shape[-1], shrink=2, name=name)


def _fit(norm, dtype, x, width, *, shrink, name):
  """A ReLU and a 1x1 convolution; to shrink, half of the channels from places one aside."""
  conv = functools.partial(nn.Conv, kernel_size=(1, 1), use_bias=False, dtype=dtype)
  x = nn.relu(x)
  if shrink == 1:
    y = conv(width, name=name)(x)
  else:
    aside = jnp.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))
    halves = ((width - width // 2, x), (width // 2, aside))
    strides = (shrink, shrink)
    y = [conv(n, strides=strides, name=f"{name}_{k}")(h) for k, (n, h) in enumerate(halves)]
    y = jnp.concatenate(y, -1)
  return norm(name=f"{name}_norm")(y)
