"""Supervised classification: what labels make of the same encoder.

  python -m experiments.supervised

trains a small ResNet on scikit-learn's digits.

  python -m experiments.supervised --data=tfds:imagenet2012 --image_size=224 --encoder=resnet50 \
    --epochs=90 --batch_size=1024 --optimizer=sgd --learning_rate=0.4 --workers=16 \
    --dtype=bfloat16
"""

from absl import flags

from experiments import pretrain
from experiments.methods import METHODS
from repjax.train.launch import Settings, run_app

flags.FLAGS.set_default("encoder", "resnet18")
flags.FLAGS.set_default("steps", 100)
flags.FLAGS.set_default("batch_size", 64)

METHOD = METHODS["supervised"]


def main(settings: Settings) -> None:
  """Runs the experiment."""
  pretrain.run(METHOD, settings)


if __name__ == "__main__":
  run_app(main)
