"""Linear probe by stochastic gradient descent, as papers of self-supervision train it."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from repjax.arrays import cross_entropy
from repjax.evaluate.embed import Embedded, labelled
from repjax.evaluate.linear import held_out, standardised

RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class Kernels(NamedTuple):
  """Classifiers of several learning rates.

  Attributes:
    kernel: ``[rates, dim, classes]``.
    bias: ``[rates, classes]``.
  """

  kernel: jax.Array
  bias: jax.Array


@functools.partial(jax.jit, static_argnames=("classes", "batch_size", "epochs"))
def fit_by_sgd(
  features: jax.Array,
  labels: jax.Array,
  rates: jax.Array,
  key: jax.Array,
  *,
  classes: int,
  batch_size: int,
  epochs: int,
  momentum: float = 0.9,
) -> Kernels:
  r"""Minimises the cross entropy by momentum, with several learning rates side by side.

  .. math:: v \leftarrow \mu v + g, \quad w \leftarrow w -
    \tfrac{\eta}{2} \bigl(1 + \cos(\pi t / T)\bigr) v

  Weights start at 0, there is no weight decay. All rates meet the same batches: each epoch visits
  the examples in an order of its own and leaves out those that do not fill a batch.

  Args:
    features: ``[n, dim]``.
    labels: ``[n]`` int in ``[0, classes)``.
    rates: ``[rates]``, eta, for the mean over a batch.
    key: of the orders.
    classes: how many.
    batch_size: at most ``n``.
    epochs: visits of every example; ``T`` is their batches.
    momentum: mu, in [0, 1).

  Returns:
    The classifiers.

  Raises:
    ValueError: if ``batch_size`` is larger than ``n``.
  """
  size, dim = features.shape
  if batch_size > size:
    raise ValueError(f"{batch_size=} of {size} examples; choose at most {size}")
  batches = size // batch_size
  total = epochs * batches

  def epoch(carry, number):
    order = jax.random.permutation(jax.random.fold_in(key, number), size)
    order = order[: batches * batch_size].reshape(batches, batch_size)

    def step(carry, here):
      params, velocity = carry
      index, rows = here
      x, y = features[rows], labels[rows]

      def loss(params):
        scores = jnp.einsum("bd,rdc->rbc", x, params.kernel, precision="highest")
        scores = scores + params.bias[:, None]
        return jnp.sum(jnp.mean(cross_entropy(scores, jnp.tile(y[None], (len(rates), 1))), 1))

      grad = jax.grad(loss)(params)
      velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, grad)
      share = (1 + jnp.cos(jnp.pi * (number * batches + index) / total)) / 2
      move = lambda w, v: w - (share * rates).reshape(-1, *[1] * (w.ndim - 1)) * v
      return (jax.tree.map(move, params, velocity), velocity), None

    return lax.scan(step, carry, (jnp.arange(batches), order))

  start = Kernels(
    jnp.zeros((len(rates), dim, classes), features.dtype),
    jnp.zeros((len(rates), classes), features.dtype),
  )
  (params, _), _ = lax.scan(epoch, (start, start), jnp.arange(epochs))
  return params


def sgd_probe(
  train: Embedded,
  test: Embedded,
  *,
  key: jax.Array,
  rates: Sequence[float] = RATES,
  batch_size: int = 256,
  epochs: int = 100,
  momentum: float = 0.9,
  validation: float = 0.1,
) -> dict[str, float]:
  """Test accuracy of a linear classifier trained by SGD, at the rate that a held-out part chose.

  The protocol of MoCo, SimSiam, DINOv2 and others, on features as they are rather than on augmented
  images: momentum, a cosine schedule to 0, no weight decay, and the best of a grid of learning
  rates, which differs between encoders by orders of magnitude. Papers choose it on the test split;
  here a stratified share of the train split does, and the classifier is trained again on all of it.
  Features are standardised with the train split's mean and deviation, as by a batch norm without
  parameters. Unlabelled examples (-1) take no part. `linear_probe` solves the same problem to its
  end, with a penalty in place of the early stop.

  Args:
    train: examples to fit and to validate on.
    test: examples to classify.
    key: of the held-out part and of the orders.
    rates: grid of learning rates, > 0; all are trained side by side in one program.
    batch_size: examples of a step; fewer if the train split is smaller.
    epochs: visits of every example.
    momentum: in [0, 1).
    validation: share of each class to choose on, in (0, 1).

  Returns:
    ``sgd_linear``, the accuracy in [0, 1], and ``sgd_linear_rate``, the rate chosen, of equals the
    lowest.

  Raises:
    ValueError: if no class has a second train example, or arguments are out of range.

  References:
    He et al., `Momentum Contrast for Unsupervised Visual Representation Learning
    <https://arxiv.org/abs/1911.05722>`_, 2019, section 4.1.
    Oquab et al., `DINOv2: Learning Robust Visual Features without Supervision
    <https://arxiv.org/abs/2304.07193>`_, 2023 (a grid of rates).
  """
  rates = sorted(map(float, rates))
  if not rates or rates[0] <= 0 or not 0 < validation < 1 or epochs < 1 or batch_size < 1:
    raise ValueError(
      f"expected rates > 0, 0 < validation < 1, epochs and batch_size >= 1, "
      f"got {rates=}, {validation=}, {epochs=}, {batch_size=}"
    )
  train, test = labelled(train, test)
  classes = int(max(train.label.max(), test.label.max())) + 1
  k_held, k_fit = jax.random.split(key)
  held = held_out(train.label, key=k_held, share=validation)
  features, test_features = standardised(train.features, test.features)

  def fit(rows, rates):
    size = min(batch_size, int(rows.sum()))
    options = {"classes": classes, "batch_size": size, "epochs": epochs, "momentum": momentum}
    rates = np.array(rates, np.float32)
    return fit_by_sgd(features[rows], train.label[rows], rates, k_fit, **options)

  def accuracy(params, i, features, label):
    scores = features @ np.asarray(params.kernel[i]) + np.asarray(params.bias[i])
    return float(np.mean(np.argmax(scores, 1) == label))

  tried = fit(~held, rates)
  # A rate so high that weights overflow is right about nothing.
  finite = np.isfinite(np.asarray(tried.kernel)).all((1, 2))
  chosen = [
    accuracy(tried, i, features[held], train.label[held]) if finite[i] else -1.0
    for i in range(len(rates))
  ]
  rate = rates[int(np.argmax(chosen))]
  params = fit(np.ones_like(held), [rate])
  return {"sgd_linear": accuracy(params, 0, test_features, test.label), "sgd_linear_rate": rate}
