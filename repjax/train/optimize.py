"""Optimizers as the papers configure them."""

from collections.abc import Callable
from typing import Any

import jax
import optax

Tree = Any


def warmup_cosine(peak: float, steps: int, *, warmup: float = 0.1) -> Callable[[int], float]:
  """Learning rate that rises linearly, then falls along half a cosine to zero.

  Args:
    peak: highest value.
    steps: length of the run.
    warmup: share of the run spent rising, in [0, 1).

  Returns:
    ``step -> learning rate``.

  Raises:
    ValueError: if ``warmup`` is out of range.
  """
  if not 0 <= warmup < 1:
    raise ValueError(f"--warmup={warmup} is a share of the run; choose a number in [0, 1)")
  rising = int(round(warmup * steps, 6))  # 0.29 of 100 is 29, which the product falls short of
  return optax.warmup_cosine_decay_schedule(0.0 if warmup else peak, peak, rising, steps)


def kernels(params: Tree) -> Tree:
  """Marks what weight decay and layer-wise rates apply to: kernels, not biases, norms or tokens.

  Args:
    params: nested dictionaries.

  Returns:
    The same tree of booleans.
  """
  return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def adamw(
  learning_rate: optax.ScalarOrSchedule,
  *,
  weight_decay: float = 1e-4,
  b2: float = 0.999,
  clip: float = 0.0,
) -> optax.GradientTransformation:
  """AdamW with decay on kernels alone.

  Args:
    learning_rate: number or schedule.
    weight_decay: decoupled, times the learning rate.
    b2: memory of the second moment.
    clip: largest global norm of a gradient; 0 for none.

  Returns:
    The optimizer.

  References:
    Loshchilov and Hutter, `Decoupled Weight Decay Regularization
    <https://arxiv.org/abs/1711.05101>`_, 2017.
  """
  return _clipped(clip, optax.adamw(learning_rate, b2=b2, weight_decay=weight_decay, mask=kernels))


def sgd(
  learning_rate: optax.ScalarOrSchedule,
  *,
  weight_decay: float = 5e-4,
  momentum: float = 0.9,
  clip: float = 0.0,
) -> optax.GradientTransformation:
  """SGD with momentum and L2 regularisation of kernels.

  Args:
    learning_rate: number or schedule.
    weight_decay: added to the gradient, as in PyTorch.
    momentum: heavy ball.
    clip: largest global norm of a gradient; 0 for none.

  Returns:
    The optimizer.
  """
  return _clipped(
    clip,
    optax.add_decayed_weights(weight_decay, mask=kernels),
    optax.sgd(learning_rate, momentum=momentum),
  )


def lars(
  learning_rate: optax.ScalarOrSchedule,
  *,
  weight_decay: float = 1e-6,
  momentum: float = 0.9,
  clip: float = 0.0,
) -> optax.GradientTransformation:
  r"""LARS: SGD whose rate follows each kernel's norm; others get plain SGD.

  With :math:`u = g + \lambda w`, a kernel takes the step :math:`0.001\, u\, |w| / |u|`, as in
  SimCLR's code; the paper's eq. 6 has :math:`|g| + \lambda |w|` below the line.

  Args:
    learning_rate: number or schedule; the field scales it by batch / 256.
    weight_decay: of kernels.
    momentum: heavy ball.
    clip: largest global norm of a gradient; 0 for none.

  Returns:
    The optimizer.

  References:
    You et al., `Large Batch Training of Convolutional Networks
    <https://arxiv.org/abs/1708.03888>`_, 2017, algorithm 1.
  """
  rule = optax.lars(
    learning_rate,
    weight_decay,
    weight_decay_mask=kernels,
    trust_ratio_mask=kernels,
    momentum=momentum,
  )
  return _clipped(clip, rule)


def _clipped(clip: float, *rules: optax.GradientTransformation) -> optax.GradientTransformation:
  return optax.chain(*([optax.clip_by_global_norm(clip)] if clip else []), *rules)
