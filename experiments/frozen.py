"""Encoders that were trained elsewhere, as flags describe them, beside the data they are to see."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import Mesh

from experiments.setup import load
from repjax import data
from repjax.pretrained import Pretrained, load_encoder
from repjax.train.launch import Settings
from repjax.train.mesh import make_mesh
from repjax.train.sharding import state_shardings

flags.DEFINE_string(
  "weights", None, "File or folder of --encoder=timm/NAME or hf/OWNER/NAME; absent: from the hub."
)
flags.DEFINE_string("weights_key", None, "Which of several state dictionaries, such as teacher.")


class Frozen(NamedTuple):
  """A pretrained encoder on the devices, and data as it is to see them.

  Attributes:
    pretrained: the encoder, its weights and its preprocessing.
    variables: the weights, on the mesh.
    dataset: images prepared when they are read, in RGB.
    mesh: the devices.
  """

  pretrained: Pretrained
  variables: Any
  dataset: data.Dataset
  mesh: Mesh


def is_pretrained(settings: Settings) -> bool:
  """Whether ``--encoder`` names an encoder that was trained elsewhere."""
  return settings.encoder.startswith(("timm/", "hf/"))


def load_frozen(settings: Settings) -> Frozen:
  """Loads the encoder that the flags name, and opens the data.

  Args:
    settings: the flags.

  Returns:
    Both, ready to encode.

  Raises:
    ValueError: if the flags, the weights or the data do not fit together.
    FileNotFoundError: if there are no such weights or data.
  """
  mesh = make_mesh(settings.mesh)
  pretrained = load_encoder(
    settings.encoder,
    settings.weights,
    key=settings.weights_key,
    image_size=settings.image_size,
    dtype=jnp.dtype(settings.dtype),
  )
  where = state_shardings(pretrained.variables, mesh, settings.sharding)
  dataset = load(settings, any_size=True)
  side = pretrained.preprocessing.corner or pretrained.preprocessing.size
  fitted = functools.partial(
    data.Fitted, function=lambda x: pretrained.prepare(_coloured(x)), image_shape=(side, side, 3)
  )
  return Frozen(
    pretrained,
    jax.device_put(pretrained.variables, where),
    dataset._replace(train=fitted(dataset.train), test=fitted(dataset.test)),
    mesh,
  )


def drawn(frozen: Frozen, seed: int = 0) -> Any:
  """The encoder's parameters before any training, on the mesh."""
  example = jnp.zeros((1, *frozen.dataset.train.image_shape), jnp.float32)
  where = jax.tree.map(lambda x: x.sharding, frozen.variables)
  return jax.jit(frozen.pretrained.encoder.init, out_shardings=where)(jax.random.key(seed), example)


def _coloured(image: np.ndarray) -> np.ndarray:
  """Grey images three times over."""
  return np.repeat(image, 3, -1) if image.shape[-1] == 1 else image
