"""DARTS: weights and the choice among operations descend in turn, on examples of their own."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from repjax.learners.learner import GradientState, Learner, Objective, Tree, gradient_of


def architecture_search(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  choice_optimizer: optax.GradientTransformation,
  *,
  prefix: str = "alphas",
  parts: Callable[[Tree], tuple[Tree, Tree]] | None = None,
  axis_name: str | None = None,
) -> Learner:
  r"""Searches an architecture by gradient: the first-order approximation of DARTS.

  .. math:: \alpha \leftarrow \alpha - \xi_\alpha \nabla_\alpha L_{\mathrm{held}}(w, \alpha),
    \qquad w \leftarrow w - \xi_w \nabla_w L_{\mathrm{train}}(w, \alpha)

  first the one, then the other at the new choices, once an update. Choices are judged on examples
  that the weights have not learned, or the operations that learn by heart would win. What the
  choices multiply is the encoder's business: with `repjax.encoders.CellNet`, ``max_w=True`` is
  sharpDARTS and ``max_w=False`` DARTS; `repjax.encoders.derive_cells` then reads the result.

  Args:
    objective: what to descend, such as `supervised` over a ``CellNet``.
    optimizer: of the weights.
    choice_optimizer: of the choices; the authors take ``optax.adam(3e-4, b1=0.5)`` with decay
      0.001 in the gradient.
    prefix: with which the names of choices begin among all parameters' names.
    parts: ``batch -> (of the weights, held out)``. If absent, every other row of the batch, in
      which case batches must be made so that a row keeps its side from one epoch to the next if
      the halves are to be strangers, as they are in DARTS.
    axis_name: mapped axis that holds the other shards of the batch, if any.

  Returns:
    A learner over `GradientState`, whose ``opt`` holds both optimizers' states. Metrics are the
    objective's on the weights' part, ``loss``, ``grad_norm`` of the weights, and ``held_loss``.
    Batch statistics and all else that is not descended follow the weights' part.

  Raises:
    ValueError: at ``init``, if no parameter is a choice; at ``update``, if the batch is not even
      and ``parts`` is absent.

  References:
    Liu, Simonyan, Yang, `DARTS: Differentiable Architecture Search
    <https://arxiv.org/abs/1806.09055>`_, 2018, algorithm 1 with eq. 7 at :math:`\xi = 0`.
    Hundt, Jain, Hager, `sharpDARTS: Faster and More Accurate Differentiable Architecture Search
    <https://arxiv.org/abs/1903.09900>`_, 2019; its searches, ``cnn/train_search.py`` of
    https://github.com/ahundt/sharpDARTS, are first order too (``--unrolled`` is off).
  """
  divide = every_other_row if parts is None else parts
  gradient = gradient_of(objective, axis_name=axis_name)

  def label(params):
    name = lambda path, _: "choice" if path[-1].key.startswith(prefix) else "weight"
    return jax.tree_util.tree_map_with_path(name, params)

  def only(kind, inner):
    rest = {"choice", "weight"} - {kind}
    return optax.partition({kind: inner, rest.pop(): optax.set_to_zero()}, label)

  weight_step, choice_step = only("weight", optimizer), only("choice", choice_optimizer)

  def init(key, batch):
    params, extra = objective.init(key, batch)
    if "choice" not in jax.tree.leaves(label(params)):
      raise ValueError(f"no parameter's name begins with prefix={prefix!r}; give that of choices")
    opt = {"weight": weight_step.init(params), "choice": choice_step.init(params)}
    return GradientState(jnp.zeros((), jnp.int32), params, extra, opt)

  def update(state, batch, key):
    train, held = divide(batch)
    k_train, k_held = jax.random.split(key)
    opt, params = {}, state.params

    grads, _, seen = gradient(params, state.extra, held, k_held)
    updates, opt["choice"] = choice_step.update(grads, state.opt["choice"], params)
    params = optax.apply_updates(params, updates)

    grads, extra, metrics = gradient(params, state.extra, train, k_train)
    updates, opt["weight"] = weight_step.update(grads, state.opt["weight"], params)
    params = optax.apply_updates(params, updates)

    kinds = label(params)
    descended = jax.tree.map(lambda g, kind: g if kind == "weight" else jnp.zeros(()), grads, kinds)
    metrics |= {"grad_norm": optax.tree.norm(descended), "held_loss": seen["loss"]}
    return GradientState(state.step + 1, params, objective.after(params, extra), opt), metrics

  def encode(state, inputs):
    return objective.encode(state.params, state.extra, inputs)

  return Learner(init, update, encode)


def every_other_row(batch: Tree) -> tuple[Tree, Tree]:
  """Halves of a batch, neighbours apart, so that no row leaves the device that holds it.

  Args:
    batch: arrays ``[batch, ...]``, ``batch`` even.

  Returns:
    Rows 0, 2, ... and rows 1, 3, ...

  Raises:
    ValueError: if ``batch`` is odd.
  """
  size = len(jax.tree.leaves(batch)[0])
  if size % 2:
    raise ValueError(f"a batch of {size} has no halves; choose an even one, or give parts=")
  pairs = jax.tree.map(lambda x: x.reshape(size // 2, 2, *x.shape[1:]), batch)
  return tuple(jax.tree.map(lambda x, side=side: x[:, side], pairs) for side in (0, 1))
