"""Supervised classification: what labels make of the same encoder.

  python -m experiments.supervised

trains a small ResNet on scikit-learn's digits.

  python -m experiments.supervised --data=tfds:imagenet2012 --image_size=224 --encoder=resnet50 \
    --epochs=90 --batch_size=1024 --optimizer=sgd --learning_rate=0.4 --workers=16 \
    --dtype=bfloat16
"""

from absl import flags

from experiments import pretrain
from experiments.setup import Method, Setup
from repjax.augment import affine_augment, crop_flip
from repjax.learners import Objective, supervised
from repjax.train.launch import Settings, run_app

flags.DEFINE_float("label_smoothing", 0.0, "Share of the target spread over all classes.")
flags.FLAGS.set_default("encoder", "resnet18")
flags.FLAGS.set_default("steps", 100)
flags.FLAGS.set_default("batch_size", 64)


def objective(settings: Settings, setup: Setup) -> Objective:
  """The classifier as the flags describe it."""
  if setup.channels == 1:
    view = affine_augment()
  else:
    view = crop_flip(setup.image_size, min_area=settings.min_area or 0.5)
  return supervised(
    setup.encoder,
    len(setup.classes),
    view,
    normalize=setup.normalize,
    label_smoothing=settings.label_smoothing,
    axis_name=setup.axis_name,
  )


METHOD = Method("supervised", objective, labels=True, next_command="python -m experiments.simclr")


def main(settings: Settings) -> None:
  """Runs the experiment."""
  pretrain.run(METHOD, settings)


if __name__ == "__main__":
  run_app(main)
