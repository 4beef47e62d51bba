"""A teacher: a copy of the network that follows it by a moving average."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from repjax.learners.learner import Tree

Schedule = float | Callable[[jax.Array], jax.Array]


class Teacher(NamedTuple):
  """A copy that gradients do not reach.

  Attributes:
    params: moving average of the network's parameters, float32.
    rest: the copy's own other collections, such as batch statistics.
  """

  params: Tree
  rest: Tree


def start_teacher(
  params: Tree, rest: Tree, *, leave_out: tuple[str, ...] = ("predictor",)
) -> Teacher:
  """The network as it is.

  Args:
    params: the network's parameters by part.
    rest: its other collections, each by part.
    leave_out: parts that the teacher does without.

  Returns:
    The teacher, in buffers of its own.
  """
  keep = lambda tree: {name: part for name, part in tree.items() if name not in leave_out}
  rest = {name: keep(tree) for name, tree in rest.items()}
  # A state is donated: no buffer may be in it twice.
  return jax.tree.map(jnp.copy, Teacher(keep(params), rest))


def follow(teacher: Teacher, params: Tree, momentum: float | jax.Array) -> Teacher:
  r"""Moves a teacher towards the network.

  .. math:: \xi \leftarrow m \xi + (1 - m) \theta

  Args:
    teacher: where it is.
    params: the network's parameters, of which those that the teacher has count.
    momentum: :math:`m`, share of the past that stays, in [0, 1].

  Returns:
    The teacher; its batch statistics are not moved.
  """
  own = {name: params[name] for name in teacher.params}
  return teacher._replace(params=optax.incremental_update(own, teacher.params, 1 - momentum))


def at_step(value: Schedule, step: jax.Array) -> float | jax.Array:
  """A number that may depend on the step.

  Args:
    value: the number, or ``step -> number``.
    step: updates made so far.

  Returns:
    The number.
  """
  return value(step) if callable(value) else value


def advance(params: Tree, extra: Tree, *, momentum: Schedule | None) -> Tree:
  """What happens once the optimizer has moved the network: its teacher follows, the clock goes on.

  Args:
    params: the network's parameters.
    extra: an objective's other state: ``step``, updates made before this one, and ``teacher``, if
      there is one.
    momentum: of the teacher, a number or ``step -> number``; not looked at without a teacher.

  Returns:
    ``extra`` after the update.
  """
  if "teacher" in extra:
    teacher = follow(extra["teacher"], params, at_step(momentum, extra["step"]))
    extra = extra | {"teacher": teacher}
  return extra | {"step": extra["step"] + 1}


def rising_momentum(start: float, steps: int) -> Callable[[jax.Array], jax.Array]:
  r"""Momentum that rises to 1 along half a cosine.

  .. math:: m_k = 1 - (1 - m_0) (\cos(\pi k / K) + 1) / 2

  Args:
    start: :math:`m_0`, in [0, 1].
    steps: :math:`K`, length of the run.

  Returns:
    ``step -> momentum``.

  References:
    Grill et al., `Bootstrap Your Own Latent <https://arxiv.org/abs/2006.07733>`_, 2020,
    section 3.2.
  """

  def momentum(step):
    share = jnp.minimum(step / steps, 1)
    return 1 - (1 - start) * (jnp.cos(jnp.pi * share) + 1) / 2

  return momentum


def rising_temperature(start: float, end: float, steps: int) -> Callable[[jax.Array], jax.Array]:
  r"""A teacher's temperature that rises in a straight line and stays.

  .. math:: \tau_k = \tau_0 + (\tau_1 - \tau_0) \min(k / K, 1)

  Sharp targets at first keep DINO and its like from predicting the same of every image.

  Args:
    start: :math:`\tau_0`, > 0; 0.04 in the paper.
    end: :math:`\tau_1`, > 0; 0.07 in the paper.
    steps: :math:`K`, updates until it stays; 30 epochs in the paper.

  Returns:
    ``step -> temperature``.

  References:
    Caron et al., `Emerging Properties in Self-Supervised Vision Transformers
    <https://arxiv.org/abs/2104.14294>`_, 2021, section 3.2; the authors' code rises epoch by epoch.
  """
  return lambda step: start + (end - start) * jnp.minimum(step / steps, 1)
