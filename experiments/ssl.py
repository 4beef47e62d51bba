"""Pretraining by any method of the library.

  python -m experiments.ssl --method=byol

pretrains a small ViT on scikit-learn's digits in about a minute and ends with a table; --help lists
the methods and their flags. What each reaches on CIFAR-10 in one budget, and the command for all
of them, is in experiments/compare_ssl.py.
"""

from absl import flags

from experiments import pretrain
from experiments.methods import METHODS
from repjax.train.launch import Settings, run_app

flags.DEFINE_enum("method", "simclr", sorted(METHODS), "What the encoder learns by.")
flags.FLAGS.set_default("encoder", "vit_nano4")
flags.FLAGS.set_default("steps", 1000)
flags.FLAGS.set_default("batch_size", 128)
flags.FLAGS.set_default("clip", 1.0)


def main(settings: Settings) -> None:
  """Runs the experiment."""
  # The three that have a launcher of their own have other defaults there.
  pretrain.run(METHODS[settings.method]._replace(launcher=None), settings)


if __name__ == "__main__":
  run_app(main)
