"""SimCLR: contrastive pretraining on two augmented views.

  python -m experiments.simclr

pretrains a small ViT on scikit-learn's digits and ends with a table. 50 s on two CPU cores; one and
five shots give 0.862 and 0.943, raw pixels 0.651 and 0.864 (results/simclr_digits.json).

  python -m experiments.simclr --data=folder:data/cifar10 --view_size=16 --encoder=vit_micro4 \
    --stem=patch --batch_size=256 --steps=1500 --learning_rate=1.5e-3 --temperature=0.2 \
    --protocols=knn

on CIFAR-10 takes 17 minutes of one CPU core; kNN (k=20) gives 0.526, raw pixels 0.453
(results/simclr_cifar10.json).

  python -m experiments.simclr --data=folder:data/cifar10 --encoder=resnet18 --epochs=200 \
    --batch_size=512 --optimizer=lars --learning_rate=0.8 --projector=512,128 \
    --projector_norm=batch --dtype=bfloat16 --protocols=knn

is for a GPU and has not been run; a public reference for this net and length is kNN (k=200) 0.848.
"""

from absl import flags

from experiments import pretrain
from experiments.methods import METHODS
from repjax.train.launch import Settings, run_app

# Chosen on 300 of the 1,297 train digits, the rest being trained on.
flags.FLAGS.set_default("encoder", "vit_nano4")
flags.FLAGS.set_default("steps", 1000)
flags.FLAGS.set_default("batch_size", 128)
flags.FLAGS.set_default("learning_rate", 4e-3)
flags.FLAGS.set_default("clip", 1.0)
flags.FLAGS.set_default("temperature", 0.3)

METHOD = METHODS["simclr"]


def main(settings: Settings) -> None:
  """Runs the experiment."""
  pretrain.run(METHOD, settings)


if __name__ == "__main__":
  run_app(main)
