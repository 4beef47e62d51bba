"""SimMIM: pretraining by predicting the pixels of hidden patches.

  python -m experiments.simmim

pretrains a small ViT on scikit-learn's digits; the report shows what it makes of hidden patches.

  python -m experiments.simmim --data=folder:PATH --image_size=224 --encoder=vit_b16 --unit=2 \
    --epochs=100 --batch_size=2048 --learning_rate=8e-4 --weight_decay=0.05 --b2=0.95
"""

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import pretrain
from experiments.setup import Method, Setup
from repjax.augment import affine_augment, crop_flip, random_mask, to_float
from repjax.evaluate.pictures import Reconstructions
from repjax.learners import Objective, reconstruct, simmim
from repjax.train import hosts
from repjax.train.launch import Settings, run_app

flags.DEFINE_float("ratio", 0.6, "Share of the image that is hidden.", lower_bound=0, upper_bound=1)
flags.DEFINE_integer("unit", 1, "Side of a hidden square in patches.", lower_bound=1)
flags.FLAGS.set_default("steps", 1500)
flags.FLAGS.set_default("batch_size", 128)
flags.FLAGS.set_default("b2", 0.95)


def objective(settings: Settings, setup: Setup) -> Objective:
  """SimMIM as the flags describe it."""
  _check_masked_encoder(settings)
  if setup.channels == 1:
    view = affine_augment(brightness=0, contrast=0, noise=0)
  else:
    view = crop_flip(setup.image_size, min_area=settings.min_area or 0.67)
  return simmim(
    setup.encoder,
    view,
    patch_size=setup.encoder.patch_size,
    normalize=setup.normalize,
    ratio=settings.ratio,
    unit=settings.unit,
    axis_name=setup.axis_name,
  )


def pictures(settings: Settings, setup: Setup, state, images) -> Reconstructions:
  """Images of the test split, hidden in part, and what the model makes of them."""
  side = setup.image_size // setup.encoder.patch_size
  keys = jax.random.split(jax.random.key(settings.seed), len(images))
  draw = lambda key: random_mask(key, (side, side), ratio=settings.ratio, unit=settings.unit)
  mask = jax.vmap(draw)(keys).reshape(len(images), -1)
  image = setup.normalize(to_float(jnp.asarray(images)))
  fill = lambda state, *shown: reconstruct(
    setup.encoder, state.params, state.extra, *shown, setup.encoder.patch_size
  )
  # One program and what it gives on every host, since several may hold the state.
  filled = hosts.fetch(jax.jit(fill)(state, np.asarray(image), np.asarray(mask)))
  # Back from normalised to displayed pixels: the normalisation is affine, channel by channel.
  offset = setup.normalize(jnp.zeros((1, 1, 1, setup.channels)))
  scale = setup.normalize(jnp.ones((1, 1, 1, setup.channels))) - offset
  shown = [np.asarray(jnp.clip((x - offset) / scale, 0, 1)) for x in filled]
  return Reconstructions(images, *shown)


def _check_masked_encoder(settings: Settings) -> None:
  if not settings.encoder.startswith("vit"):
    raise ValueError(
      f"--encoder={settings.encoder} has no patches to hide; choose a ViT, such as vit_b16"
    )


METHOD = Method(
  "simmim", objective, next_command="python -m experiments.supervised", reconstruct=pictures
)


def main(settings: Settings) -> None:
  """Runs the experiment."""
  pretrain.run(METHOD, settings)


if __name__ == "__main__":
  run_app(main)
