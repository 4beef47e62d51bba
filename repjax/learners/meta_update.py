"""A learned rule by which the neurons of a net change their weights, without labels or a loss."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from repjax.arrays import l2_normalize
from repjax.augment import to_float
from repjax.encoders import MLP, Features
from repjax.learners.learner import Objective, example_keys
from repjax.learners.spread import spread

Activation = Callable[[jax.Array], jax.Array]


class InnerNet(NamedTuple):
  """A net that a rule trains.

  Attributes:
    forward: weights ``[below, above]`` of each layer; a neuron's are of root mean square 1.
    backward: those by which signals come down again, of the same shapes.
    bias: ``[above]`` of each layer.
  """

  forward: tuple[jax.Array, ...]
  backward: tuple[jax.Array, ...]
  bias: tuple[jax.Array, ...]


def start_net(key: jax.Array, dims: Sequence[int]) -> InnerNet:
  """A random net.

  Args:
    key: of the weights.
    dims: widths, the input's first.

  Returns:
    The net; biases are 0.
  """
  shapes = list(itertools.pairwise(dims))
  draw = lambda k: tuple(
    _unit(jax.random.normal(jax.random.fold_in(k, i), shape)) for i, shape in enumerate(shapes)
  )
  k_forward, k_backward = jax.random.split(key)
  return InnerNet(draw(k_forward), draw(k_backward), tuple(jnp.zeros(d) for d in dims[1:]))


def run_net(
  net: InnerNet, x: jax.Array, *, activation: Activation = nn.relu
) -> tuple[list[jax.Array], list[jax.Array]]:
  """Runs a net; each layer's input to its neurons is standardised over the batch.

  Args:
    net: the net.
    x: ``[batch, dim]``.
    activation: of all layers.

  Returns:
    What the neurons of each level say and what they were told, ``[batch, width]`` each; of the
    input both are ``x``.
  """
  says, told = [x], [x]
  for weight, bias in zip(net.forward, net.bias, strict=True):
    told.append(_standardize(says[-1] @ weight) + bias[None])
    says.append(activation(told[-1]))
  return says, told


class UpdateRule(nn.Module):
  """A change of weights that depends on what a connection's two neurons know.

  A neuron knows its input and output for an example, their moments over the batch, moments of its
  weights, its bias, and a signal from above. An MLP, the same for every neuron of every net, makes
  of it what the neuron adds to the signal and, by low-rank products of the two neurons' readouts,
  how their connection changes, beside Hebb's term and one of decorrelation.

  A smaller rule than the paper's: its convolutions over batch and units are an MLP here, of its
  terms those of order 0 and 1, symmetric, Hebbian and decorrelating stay, and lengths of weights
  are kept at 1 rather than steered.

  Attributes:
    hidden: width of the MLP.
    signals: channels of the signal from above.
    rank: channels of a readout.
    learning_rate: size of a change, whose entries are about 1 as weights are.

  References:
    Metz et al., `Meta-Learning Update Rules for Unsupervised Representation Learning
    <https://arxiv.org/abs/1804.00222>`_, 2018, section 3 and appendix; terms as in
    ``more_local_weight_update.py`` of the `authors' code
    <https://github.com/tensorflow/models/tree/master/research/learning_unsupervised_learning>`_.
  """

  hidden: int = 32
  signals: int = 8
  rank: int = 4
  learning_rate: float = 0.1

  def setup(self):
    self.top = MLP((self.hidden, self.signals))
    self.neuron = MLP((self.hidden, self.hidden), norm="layer")
    self.to_signal = nn.Dense(self.signals)
    self.to_bias = nn.Dense(1)
    self.readouts = [nn.Dense(self.rank) for _ in range(5)]
    self.mix = self.param("mix", nn.initializers.constant(0.3), (6,))

  def __call__(self, net: InnerNet, x: jax.Array, *, activation: Activation = nn.relu) -> InnerNet:
    """Takes one step without labels.

    Args:
      net: the net.
      x: ``[batch, dim]``.
      activation: of the net.

    Returns:
      The net after the step.
    """
    says, told = run_net(net, x, activation=activation)
    signal = self.top(_with_moments(says[-1]))
    knows = []
    for level in reversed(range(len(says))):
      known = nn.relu(self.neuron(self._seen(net, level, says, told, signal)))
      knows.insert(0, known)
      if level:
        signal = signal * nn.sigmoid(told[level])[..., None] + self.to_signal(known)
        signal = jnp.einsum("bnc,mn->bmc", signal, net.backward[level - 1])
        signal *= lax.rsqrt(jnp.mean(jnp.square(signal), 2, keepdims=True) + 1e-6)
    forward, backward, biases = [], [], []
    for i, (weight, back, bias) in enumerate(zip(*net, strict=True)):
      change = self._change(weight, says[i], says[i + 1], knows[i], knows[i + 1])
      # Both directions change alike, as in the paper.
      forward.append(_unit(weight - self.learning_rate * change))
      backward.append(_unit(back - self.learning_rate * change))
      by = jnp.mean(self.to_bias(knows[i + 1])[..., 0], 0)
      by *= lax.rsqrt(0.5 + jnp.mean(jnp.square(by)))
      biases.append(bias - self.learning_rate * by)
    return InnerNet(tuple(forward), tuple(backward), tuple(biases))

  def _seen(self, net, level, says, told, signal):
    """What each neuron of a level knows, ``[batch, width, any]``."""
    moments = lambda w, axis: [jnp.mean(jnp.abs(w), axis), jnp.mean(w, axis), jnp.std(w, axis)]
    below = moments(net.forward[level - 1], 0) if level else None
    above = moments(net.forward[level], 1) if level < len(net.forward) else None
    bias = net.bias[level - 1] if level else jnp.zeros(says[0].shape[1])
    own = jnp.stack([bias, *(below or above), *(above or below)], -1)
    own = jnp.broadcast_to(own[None], (len(says[0]), *own.shape))
    return jnp.concatenate([_with_moments(says[level]), told[level][..., None], own, signal], -1)

  def _change(self, weight, lower, upper, knows_lower, knows_upper):
    lower, upper = _standardize(lower), _standardize(upper)
    size = len(lower)

    def product(i, j, a, b):  # low rank: a sum over examples and channels
      return jnp.einsum("bmr,bnr->mn", self.readouts[i](a), self.readouts[j](b)) / size

    within = product(4, 4, knows_upper, knows_upper)
    within *= (1 - jnp.eye(len(within))) / jnp.sqrt(len(within))
    terms = [
      -lower.T @ upper / size,
      weight @ (upper.T @ upper) / size / jnp.sqrt(upper.shape[1]),
      product(0, 1, knows_lower, knows_upper),
      weight * product(2, 3, knows_lower, knows_upper),
      weight @ within,
      weight * jnp.abs(weight),
    ]
    normal = lambda x: x * lax.rsqrt(1 + jnp.mean(jnp.square(x), 0, keepdims=True))
    return normal(sum(m * normal(term) for m, term in zip(self.mix, terms, strict=True)))


def ridge_loss(
  support: jax.Array,
  support_label: jax.Array,
  query: jax.Array,
  query_label: jax.Array,
  *,
  classes: int,
  penalty: float = 0.1,
) -> tuple[jax.Array, jax.Array]:
  r"""How badly a ridge regression on a few labelled features predicts others.

  .. math::
    \frac{1}{n} \sum_i \lVert \hat y_i / \lVert \hat y_i \rVert - y_i \rVert^2, \qquad
    \hat y = \hat W^\top x, \quad
    \hat W = \arg\min_W \lVert W^\top X - Y \rVert^2 + \lambda \lVert W \rVert^2

  with one-hot labels that are centred and scaled, and a bias that goes free. Of two classes only
  the sign of a prediction would be left, and no gradient: take three or more.

  Args:
    support: features that are labelled, ``[support, dim]``.
    support_label: ``[support]`` int.
    query: features to predict for, ``[query, dim]``.
    query_label: ``[query]`` int.
    classes: their number, at least 3.
    penalty: :math:`\lambda`; 0.1 in the authors' code.

  Returns:
    The loss, and the accuracy.
  """

  def centred(label):
    y = jax.nn.one_hot(label, classes)
    y = y - jnp.mean(y)
    return y * lax.rsqrt(jnp.mean(jnp.sum(jnp.square(y), 1)))

  with_one = lambda x: jnp.concatenate([x, jnp.ones((len(x), 1))], 1)
  a, y = with_one(support), centred(support_label)
  free = jnp.append(jnp.full(support.shape[1], penalty), 1e-6)
  kernel = jax.scipy.linalg.solve(a.T @ a + jnp.diag(free), a.T @ y, assume_a="pos")
  predicted = with_one(query) @ kernel
  right = jnp.mean(jnp.argmax(predicted, 1) == query_label)
  difference = l2_normalize(predicted) - centred(query_label)
  return jnp.mean(jnp.sum(jnp.square(difference), 1)), right


def meta_update(
  rule: nn.Module,
  dims: Sequence[int],
  *,
  classes: int,
  windows: int = 4,
  window: int = 5,
  inner_batch: int = 32,
  activation: Activation = nn.relu,
  axis_name: str | None = None,
) -> Objective:
  """Builds the objective of a rule that learns to learn features without labels.

  An example of the batch is a task: ``image``, ``[tasks, n, ...]``, without labels, on which a new
  net is trained by the rule; ``support``, ``support_label``, ``query`` and ``query_label``, on
  which the net's features are judged at the end of each window of steps by `ridge_loss`. Gradients
  go back to the start of a window and no farther. Only the rule's parameters are learned.

  Args:
    rule: ``(net, x, activation=) -> net``, such as `UpdateRule`.
    dims: widths of the nets after the input; a rule trains nets of other widths and depths too.
    classes: of a task, at least 3.
    windows: how often a net is judged.
    window: steps between, through which gradients go.
    inner_batch: images of a step, drawn with replacement.
    activation: of the nets.
    axis_name: mapped axis that holds the rest of the tasks, if any.

  Returns:
    The objective. Its metrics are ``accuracy`` of the last window and those of `spread` of all
    tasks' queries. ``encode`` trains a net on the very inputs that it is given, always from the
    same start, and returns their features.

  References:
    Metz et al., `Meta-Learning Update Rules for Unsupervised Representation Learning
    <https://arxiv.org/abs/1804.00222>`_, 2018, section 3, algorithm 1 and eq. 3 to 6.
  """

  def rows(image):
    return to_float(image).reshape(len(image), -1)

  def start(key, image):
    return start_net(key, (rows(image[:1]).shape[1], *dims))

  def train(params, net, image, key):
    def step(net, k):
      chosen = jax.random.randint(k, (inner_batch,), 0, len(image))
      x = rows(image[chosen])
      return rule.apply({"params": params}, net, x, activation=activation), None

    return lax.scan(step, net, jax.random.split(key, window))[0]

  def top(net, image):
    return run_net(net, rows(image), activation=activation)[0][-1]

  def init(key, batch):
    image = batch["image"][0]
    net = start(key, image)
    return rule.init(key, net, rows(image[:inner_batch]), activation=activation)["params"], {}

  def judge(params, task, key):
    k_start, k_steps = jax.random.split(key)

    def one(net, k):
      net = train(params, lax.stop_gradient(net), task["image"], k)
      # Together, so that they are standardised alike.
      both = top(net, jnp.concatenate([task["support"], task["query"]]))
      support, query = jnp.split(both, [len(task["support"])])
      labels = task["support_label"], task["query_label"]
      value, right = ridge_loss(support, labels[0], query, labels[1], classes=classes)
      return net, (value, right, query)

    first = start(k_start, task["image"])
    _, (values, right, query) = lax.scan(one, first, jax.random.split(k_steps, windows))
    return jnp.mean(values), right[-1], query[-1]

  def loss(params, extra, batch, key):
    keys = example_keys(key, len(batch["image"]), axis_name=axis_name)
    values, right, query = jax.vmap(judge, (None, 0, 0))(params, batch, keys)
    query = query.reshape(-1, query.shape[-1])
    metrics = {"accuracy": jnp.mean(right), **spread(query, axis_name=axis_name)}
    return jnp.mean(values), (extra, metrics)

  def encode(params, extra, image):
    del extra
    key = jax.random.key(0)
    net = start(key, image)
    for k in jax.random.split(key, windows):
      net = train(params, net, image, k)
    says = run_net(net, rows(image), activation=activation)[0]
    return Features(says[-1], says[-1][:, None], tuple(says[1:]))

  return Objective(init, loss, encode)


def _unit(weight):
  return weight * lax.rsqrt(jnp.mean(jnp.square(weight), 0, keepdims=True) + 1e-12)


def _standardize(x):
  x = x - jnp.mean(x, 0, keepdims=True)
  return x * lax.rsqrt(jnp.mean(jnp.square(x), 0, keepdims=True) + 1e-6)


def _with_moments(x):
  """Each entry beside mean and deviation of its column, ``[batch, width, 3]``."""
  spread_out = jnp.sqrt(jnp.var(x, 0, keepdims=True) + 1e-8)
  moments = jnp.broadcast_arrays(x, jnp.mean(x, 0, keepdims=True), spread_out)
  return jnp.stack(moments, -1)
