"""SimMIM: pretraining by predicting the pixels of hidden patches.

  python -m experiments.simmim

pretrains a small ViT on scikit-learn's digits; the report shows what it makes of hidden patches.

  python -m experiments.simmim --data=folder:PATH --image_size=224 --encoder=vit_b16 --unit=2 \
    --epochs=100 --batch_size=2048 --learning_rate=8e-4 --weight_decay=0.05 --b2=0.95
"""

from absl import flags

from experiments import pretrain
from experiments.methods import METHODS
from repjax.train.launch import Settings, run_app

flags.FLAGS.set_default("steps", 1500)
flags.FLAGS.set_default("batch_size", 128)
flags.FLAGS.set_default("b2", 0.95)

METHOD = METHODS["simmim"]


def main(settings: Settings) -> None:
  """Runs the experiment."""
  pretrain.run(METHOD, settings)


if __name__ == "__main__":
  run_app(main)
