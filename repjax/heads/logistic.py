"""Multinomial logistic regression, fitted to convergence."""

import functools
from typing import TypedDict

import jax
import jax.numpy as jnp
import optax
from jax import lax


class Logistic(TypedDict):
  """Parameters of `logits`.

  Attributes:
    kernel: ``[dim, classes]``.
    bias: ``[classes]``.
  """

  kernel: jax.Array
  bias: jax.Array


def logits(params: Logistic, features: jax.Array) -> jax.Array:
  """Class scores whose softmax is the predicted distribution.

  Args:
    params: what `fit_logistic` returns.
    features: ``[batch, dim]``.

  Returns:
    ``[batch, classes]``.
  """
  scores = jnp.matmul(features, params["kernel"], precision=lax.Precision.HIGHEST)
  return scores + params["bias"][None]


@functools.partial(jax.jit, static_argnames="classes")
def fit_logistic(
  features: jax.Array,
  labels: jax.Array,
  *,
  classes: int,
  penalty: float,
  where: jax.Array | None = None,
  init: Logistic | None = None,
  tolerance: float = 1e-5,
  max_steps: int = 300,
) -> Logistic:
  r"""Minimises the mean cross entropy with a squared penalty on the kernel.

  .. math:: \frac1n \sum_i -\log \mathrm{softmax}(W^\top x_i + b)_{y_i}
    + \frac{\lambda}{2} \lVert W \rVert^2

  The bias goes free. scikit-learn's ``C`` is :math:`1 / (\lambda n)`. L-BFGS with a zoom line
  search runs in coordinates scaled by each feature's second moment, which changes the path and not
  the minimum; features with decorrelated columns converge in the fewest steps.

  Args:
    features: ``[n, dim]``, computed on in float32 or, if given in it, float64.
    labels: ``[n]`` int in ``[0, classes)``; rows labelled -1 are left out.
    classes: number of classes.
    penalty: lambda, >= 0. At 0 separable data have no minimum, and ``max_steps`` ends the search.
    where: ``[n]`` boolean, the rows to fit; all labelled rows if absent. One compiled program
      serves every choice of rows.
    init: where to start; zeros if absent.
    tolerance: ends the search at a gradient with no entry larger than this.
    max_steps: ends the search in any case.

  Returns:
    The parameters, in the dtype computed in.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Liu and Nocedal, `On the limited memory BFGS method for large scale optimization
    <https://doi.org/10.1007/BF01589116>`_, 1989.
  """
  if features.ndim != 2 or labels.shape != features.shape[:1]:
    raise ValueError(f"expected [n, dim] and [n], got {features.shape=} and {labels.shape=}")
  dtype = jnp.promote_types(features.dtype, jnp.float32)
  where = labels >= 0 if where is None else where & (labels >= 0)
  features = jnp.where(where[:, None], features, 0).astype(dtype)
  weight = where / jnp.maximum(jnp.sum(where, dtype=dtype), 1)
  if init is None:
    init = {"kernel": jnp.zeros((features.shape[1], classes)), "bias": jnp.zeros(classes)}

  # At uniform predictions the curvature along a feature is its second moment / classes + penalty.
  curvature = weight @ jnp.square(features) / classes + penalty
  curvature = jnp.maximum(curvature, jnp.finfo(dtype).tiny)
  scale = lax.rsqrt(jnp.append(curvature, 1 / classes))[:, None]

  def unpack(scaled):
    params = scaled * scale
    return {"kernel": params[:-1], "bias": params[-1]}

  def objective(scaled):
    params = unpack(scaled)
    scores = logits(params, features)
    correct = jnp.take_along_axis(scores, labels[:, None], 1)[:, 0]
    cross_entropy = weight @ (jax.nn.logsumexp(scores, 1) - correct)
    return cross_entropy + penalty / 2 * jnp.sum(jnp.square(params["kernel"]))

  search = optax.scale_by_zoom_linesearch(20, initial_guess_strategy="one")
  optimizer = optax.lbfgs(linesearch=search)
  value_and_grad = optax.value_and_grad_from_state(objective)

  def step(carry):
    scaled, state = carry
    value, grad = value_and_grad(scaled, state=state)
    updates, state = optimizer.update(
      grad, state, scaled, value=value, grad=grad, value_fn=objective
    )
    return optax.apply_updates(scaled, updates), state

  def unfinished(carry):
    _, state = carry
    count = optax.tree.get(state, "count")
    steep = jnp.max(jnp.abs(optax.tree.get(state, "grad") / scale)) > tolerance
    return (count == 0) | ((count < max_steps) & steep)

  # One array, kernel over bias, compiles faster than two.
  scaled = jnp.concatenate([init["kernel"], init["bias"][None]]).astype(dtype) / scale
  scaled, _ = lax.while_loop(unfinished, step, (scaled, optimizer.init(scaled)))
  return unpack(scaled)
