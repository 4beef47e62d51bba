"""Entropic Student: the front of a classifier as a code of few bits, learnt from the classifier."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from repjax.arrays import cross_entropy
from repjax.augment import to_float
from repjax.codes import Bottleneck
from repjax.encoders import Features
from repjax.learners.learner import Objective, Tree, example_keys, labelled_mean
from repjax.losses import soft_labels

Map = Callable[[jax.Array, jax.Array], jax.Array]


class Halves(nn.Module):
  """An encoder that a bottleneck can be put into.

  Attributes:
    front: images to a map, the half that the bottleneck takes the place of.
    back: that map to `Features`.
  """

  front: nn.Module
  back: nn.Module

  def __call__(self, image: jax.Array, *, train: bool = False) -> Features:
    """Encodes images; ``layers`` are the front's map and the back's layers.

    Args:
      image: ``[batch, height, width, channels]``, floating.
      train: not used: halves have no state.

    Returns:
      Features.
    """
    del train
    x = self.front(image)
    out = self.back(x)
    return out._replace(layers=(x, *out.layers))


def entropic_student(
  bottleneck: Bottleneck,
  halves: Halves,
  teacher: Tree,
  augment: Map,
  *,
  beta: float,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of the first stage: features of a teacher, in few bits.

  .. math:: \sum_j \lVert h_j - h_j^{\mathrm{teacher}} \rVert^2 - \beta \log_2 p(\tilde z)

  summed over a map and averaged over the batch, with noise in place of rounding. The bottleneck's
  map :math:`h_1` goes on through the teacher's own back, whose layers are compared too and stay as
  they are.

  Args:
    bottleneck: images to the map that ``halves.front`` gives.
    halves: the teacher; no batch statistics.
    teacher: its variables, ``encoder`` and, of a linear layer on pooled features, ``head``, as
      params of `supervised` are.
    augment: ``(key, image) -> image`` for one image in [0, 1]; teacher and student see the same.
    beta: price of a bit, > 0.
    normalize: last step before teacher and bottleneck.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; labels are not looked at. ``params`` are the bottleneck's, the teacher is part of
    the state. Metrics are ``bits`` an image and ``distortion``, both with noise. ``encode`` rounds.

  References:
    Matsubara et al., `Supervised Compression for Resource-Constrained Edge Computing Systems
    <https://arxiv.org/abs/2108.11898>`_, 2021, section 3; configs of ``entropic_student`` in
    https://github.com/yoshitomo-matsubara/supervised-compression.
  """

  def init(key, batch):
    params = bottleneck.init(key, normalize(to_float(batch["image"])))["params"]
    return params, jax.tree.map(jnp.copy, {"teacher": teacher})

  def loss(params, extra, batch, key):
    image, keys = _views(augment, normalize, batch["image"], key, axis_name)
    known = extra["teacher"]["encoder"]
    theirs = halves.apply({"params": known}, image).layers
    coded = bottleneck.apply({"params": params}, image, keys=keys)
    ours = (coded.decoded, *halves.back.apply({"params": known["back"]}, coded.decoded).layers)
    apart = sum(
      jnp.sum(jnp.square(x - lax.stop_gradient(y)).reshape(len(image), -1), 1)
      for x, y in zip(ours, theirs, strict=True)
    )
    metrics = {"bits": jnp.mean(coded.bits), "distortion": jnp.mean(apart)}
    return metrics["distortion"] + beta * metrics["bits"], (extra, metrics)

  def encode(params, extra, image):
    coded = bottleneck.apply({"params": params}, normalize(to_float(image)))
    return halves.back.apply({"params": extra["teacher"]["encoder"]["back"]}, coded.decoded)

  return Objective(init, loss, encode)


def tuned_student(
  bottleneck: Bottleneck,
  halves: Halves,
  teacher: Tree,
  learnt: Tree,
  augment: Map,
  *,
  alpha: float = 0.5,
  temperature: float = 1.0,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of the second stage: the receiver learns from labels and the teacher.

  .. math:: \alpha \operatorname{CE}(y, s) + (1 - \alpha) \tau^2 \operatorname{KL}(t \,\|\, s)

  Codes are rounded; the sender and its prior stay as they are, and with them each image's bits.

  Args:
    bottleneck: as in `entropic_student`.
    halves: as there.
    teacher: as there; the student's back and head start as the teacher's.
    learnt: parameters of the first stage.
    augment: as there.
    alpha: weight of the labels, in [0, 1]; 0.5 in the code.
    temperature: of both softmaxes; 1 in the code.
    normalize: as there.
    axis_name: as there.

  Returns:
    The objective; ``params`` are ``synthesis``, ``back`` and ``head``. ``batch["label"]`` is
    ``[batch]`` int32, and of an example with -1 the teacher alone speaks. Metrics are ``accuracy``
    and ``bits`` on the augmented batch.

  References:
    Matsubara et al., `Supervised Compression for Resource-Constrained Edge Computing Systems
    <https://arxiv.org/abs/2108.11898>`_, 2021, section 3; configs of ``entropic_student`` in
    https://github.com/yoshitomo-matsubara/supervised-compression.
  """

  def init(key, batch):
    del key, batch
    params = {"synthesis": learnt["synthesis"], "back": teacher["encoder"]["back"]}
    params |= {"head": teacher["head"]}
    sender = {name: learnt[name] for name in ("analysis", "prior")}
    return jax.tree.map(jnp.copy, (params, {"sender": sender, "teacher": teacher}))

  def run(params, extra, image):
    own = extra["sender"] | {"synthesis": params["synthesis"]}
    coded = bottleneck.apply({"params": own}, image)
    return halves.back.apply({"params": params["back"]}, coded.decoded), coded.bits

  def loss(params, extra, batch, key):
    image, _ = _views(augment, normalize, batch["image"], key, axis_name)
    out, bits = run(params, extra, image)
    logits = _linear(params["head"], out.pooled)
    known = extra["teacher"]
    theirs = halves.apply({"params": known["encoder"]}, image).pooled
    mean = labelled_mean(batch["label"], axis_name=axis_name)
    told = soft_labels(logits, _linear(known["head"], theirs), temperature=temperature)
    total = alpha * mean(cross_entropy(logits, batch["label"])) + (1 - alpha) * jnp.mean(told)
    right = mean(jnp.argmax(logits, -1) == batch["label"])
    return total, (extra, {"accuracy": right, "bits": jnp.mean(bits)})

  def encode(params, extra, image):
    return run(params, extra, normalize(to_float(image)))[0]

  return Objective(init, loss, encode)


def coded_classifier(
  bottleneck: Bottleneck,
  back: nn.Module,
  classes: int,
  augment: Map,
  *,
  beta: float,
  normalize: Callable[[jax.Array], jax.Array] = lambda image: image,
  axis_name: str | None = None,
) -> Objective:
  r"""Builds the objective of a classifier behind a bottleneck, learnt end to end without a teacher.

  .. math:: \operatorname{CE}(y, s) - \beta \log_2 p(\tilde z)

  Args:
    bottleneck: images to the map that ``back`` takes.
    back: map to `Features`; no batch statistics.
    classes: number of classes.
    augment: ``(key, image) -> image`` for one image in [0, 1].
    beta: price of a bit, > 0.
    normalize: last step before the bottleneck.
    axis_name: mapped axis that holds the rest of the batch, if any.

  Returns:
    The objective; ``params`` are ``bottleneck``, ``back`` and ``head``. ``batch["label"]`` is
    ``[batch]`` int32, and -1 leaves an example's label out. Metrics are ``accuracy`` and ``bits``
    with noise. ``encode`` rounds.

  References:
    Singh et al., `End-to-end Learning of Compressible Features
    <https://arxiv.org/abs/2007.11797>`_, 2020.
  """
  head = nn.Dense(classes)

  def init(key, batch):
    k_bottleneck, k_back, k_head = jax.random.split(key, 3)
    image = normalize(to_float(batch["image"]))
    own = bottleneck.init(k_bottleneck, image)
    x = bottleneck.apply(own, image).decoded
    behind = back.init(k_back, x)
    pooled = back.apply(behind, x).pooled
    params = {"bottleneck": own["params"], "back": behind["params"]}
    return params | {"head": head.init(k_head, pooled)["params"]}, {}

  def loss(params, extra, batch, key):
    image, keys = _views(augment, normalize, batch["image"], key, axis_name)
    coded = bottleneck.apply({"params": params["bottleneck"]}, image, keys=keys)
    out = back.apply({"params": params["back"]}, coded.decoded)
    logits = _linear(params["head"], out.pooled)
    mean = labelled_mean(batch["label"], axis_name=axis_name)
    bits = jnp.mean(coded.bits)
    total = mean(cross_entropy(logits, batch["label"])) + beta * bits
    right = mean(jnp.argmax(logits, -1) == batch["label"])
    return total, (extra, {"accuracy": right, "bits": bits})

  def encode(params, extra, image):
    del extra
    image = normalize(to_float(image))
    coded = bottleneck.apply({"params": params["bottleneck"]}, image)
    return back.apply({"params": params["back"]}, coded.decoded)

  return Objective(init, loss, encode)


def _views(augment, normalize, image, key, axis_name):
  """Augmented images, and a key for each image's noise."""
  image = to_float(image)
  k_augment, k_noise = jax.random.split(key)
  keys, noise = (example_keys(k, len(image), axis_name=axis_name) for k in (k_augment, k_noise))
  return normalize(jax.vmap(augment)(keys, image)), noise


def _linear(head, pooled):
  return jnp.asarray(pooled @ head["kernel"] + head["bias"][None], jnp.float32)
