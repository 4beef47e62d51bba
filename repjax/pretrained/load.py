"""A pretrained encoder in one call: module, weights, preprocessing."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from repjax.encoders import CrossViT, Features
from repjax.pretrained.catalog import Model, timm_model
from repjax.pretrained.hugging import from_config, read_config
from repjax.pretrained.preprocessing import Preprocessing, cut, standardize
from repjax.trees import Rule, convert, find_names, read_state

Tree = Any
#: Files of a model on the hub that are needed here.
_WANTED = (
  "config.json",
  "preprocessor_config.json",
  "model*.safetensors",
  "*.safetensors.index.json",
  "tokenizer.json",
  "spiece.model",
)


class Pretrained(NamedTuple):
  """An encoder and what it learned elsewhere.

  Attributes:
    encoder: the module.
    variables: its parameters, as NumPy arrays.
    preprocessing: of its images.
    prepare: any image, uint8 ``[height, width, 3]``, to the square that the encoder takes, uint8.
    encode: ``(variables, [batch, size, size, 3] uint8) -> Features``, pure, to be jitted.
    rules: by which `repjax.trees.revert` gives the weights back.
  """

  encoder: nn.Module
  variables: Tree
  preprocessing: Preprocessing
  prepare: Callable[[np.ndarray], np.ndarray]
  encode: Callable[[Tree, jax.Array], Features]
  rules: Sequence[Rule]


def load_encoder(
  name: str,
  weights: str | Path | None = None,
  *,
  key: str | None = None,
  image_size: int | None = None,
  dtype: DTypeLike = jnp.float32,
) -> Pretrained:
  """Loads an encoder that was trained elsewhere.

  Args:
    name: ``timm/NAME``, with or without timm's tag; or ``hf/OWNER/NAME``, by its configuration.
    weights: a file, or a folder with ``config.json``; from the Hugging Face hub if absent.
    key: which of several state dictionaries in a file of PyTorch's, such as ``teacher``.
    image_size: side of the images to encode, in pixels; the model's own if absent. Positions are
      interpolated.
    dtype: of the computation; parameters are float32.

  Returns:
    The encoder with its weights.

  Raises:
    FileNotFoundError: if there are no such weights.
    ImportError: naming a package that is missing.
    ValueError: if the name is unknown, the weights do not fit it or are damaged.
  """
  owner, _, rest = name.partition("/")
  if owner not in ("timm", "hf") or not rest:
    raise ValueError(f"{name!r} is not a pretrained encoder; say timm/NAME or hf/OWNER/NAME")
  model = timm_model(rest) if owner == "timm" else None  # an unknown name is found out at once
  if weights is None:
    weights = download(name if owner == "timm" else rest)
  if model is None:
    folder = Path(weights).expanduser()
    model = from_config(*read_config(folder if folder.is_dir() else folder.parent))
  state = read_state(weights, key=key)
  model = _resized(model, image_size, name)
  encoder = model.encoder.clone(dtype=dtype)
  side = model.preprocessing.corner or model.preprocessing.size
  example = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  like = jax.eval_shape(encoder.init, jax.random.key(0), example)
  rules = find_names(model.rules, state, model.prefixes)
  variables = convert(state, rules, like, unused=model.unused, name=str(weights))
  return finished(encoder, variables, model.preprocessing, rules)


def finished(
  encoder: nn.Module, variables: Tree, how: Preprocessing, rules: Sequence[Rule]
) -> Pretrained:
  """An encoder and its weights with the functions that belong to them.

  Args:
    encoder: the module.
    variables: its parameters.
    how: its preprocessing.
    rules: by which the weights were read.

  Returns:
    All of it.
  """
  return Pretrained(
    encoder=encoder,
    variables=variables,
    preprocessing=how,
    prepare=lambda image: cut(image, how),
    encode=lambda variables, image: encoder.apply(variables, standardize(image, how)),
    rules=rules,
  )


def _resized(model: Model, image_size: int | None, name: str) -> Model:
  """The model for images of another size."""
  how = model.preprocessing
  if image_size is None or image_size == how.size:
    return model
  relative = getattr(model.encoder, "positions", None) == "relative"
  if relative or isinstance(model.encoder, CrossViT):  # which resizes images, to no avail
    raise ValueError(
      f"{name} has {'relative ' * relative}positions for images of {how.size} pixels alone; leave "
      "image_size= out"
    )
  return model._replace(preprocessing=how._replace(size=image_size, corner=image_size))


def download(repository: str) -> Path:
  """A model's files from the Hugging Face hub, or from its cache.

  Args:
    repository: ``OWNER/NAME``.

  Returns:
    The folder.

  Raises:
    FileNotFoundError: if they are not to be had, with the way out.
    ImportError: if huggingface_hub is not installed.
  """
  try:
    import huggingface_hub
  except ImportError:
    raise ImportError(
      "weights come from the hub by huggingface_hub; pip install 'repjax[pretrained]', or name a "
      "file by weights="
    ) from None
  try:
    folder = Path(huggingface_hub.snapshot_download(repository, allow_patterns=list(_WANTED)))
  except Exception as error:  # of the network, the hub, the cache: many kinds
    raise FileNotFoundError(
      f"no weights of {repository} from the hub ({_reason(error)}); check the name, download them "
      "where there is a network and name the file or folder by weights="
    ) from None
  if not list(folder.glob("*.safetensors")):
    raise FileNotFoundError(
      f"{repository} has no model.safetensors on the hub; download the file of weights that it has "
      "and name it by weights="
    )
  return folder


def _reason(error: Exception) -> str:
  """The line of a message that says most: the hub's begin with the number of the request."""
  lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
  return lines[1] if lines[0][:3].isdigit() and lines[1:] else lines[0]
