"""SimCLR: contrastive pretraining on two augmented views.

  python -m experiments.simclr

pretrains a small ViT on scikit-learn's digits and ends with a table. 50 s on two CPU cores; one and
five shots give 0.870 and 0.944, raw pixels 0.651 and 0.864 (results/simclr_digits.json).

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
from experiments.setup import Method, Setup, whole_numbers
from repjax.augment import affine_augment, simclr_augment
from repjax.encoders import MLP
from repjax.learners import Objective, simclr
from repjax.train.launch import Settings, run_app

flags.DEFINE_float("temperature", 0.3, "Of the softmax.", lower_bound=0)
flags.DEFINE_list("projector", ["128", "64"], "Widths of the projector's layers.")
flags.DEFINE_enum("projector_norm", "none", ["none", "batch", "layer"], "Between its layers.")
flags.DEFINE_enum("augment", None, ["affine", "simclr"], "Views; affine for grey images if absent.")
flags.DEFINE_float("colour", 0.5, "Strength of colour jitter, for --augment=simclr.")
# Chosen on 300 of the 1,297 train digits, the rest being trained on.
flags.FLAGS.set_default("encoder", "vit_nano4")
flags.FLAGS.set_default("steps", 1000)
flags.FLAGS.set_default("batch_size", 128)
flags.FLAGS.set_default("learning_rate", 4e-3)
flags.FLAGS.set_default("clip", 1.0)


def objective(settings: Settings, setup: Setup) -> Objective:
  """SimCLR as the flags describe it."""
  if (settings.augment or ("affine" if setup.channels == 1 else "simclr")) == "affine":
    view = affine_augment(
      degrees=25,
      scale=(0.75, 1.25),
      shear=20,
      translate=0.15,
      brightness=0.2,
      contrast=0.2,
      noise=0.1,
    )
  else:
    view = simclr_augment(
      setup.image_size,
      strength=settings.colour,
      blur=setup.image_size > 64,
      min_area=settings.min_area or 0.2,
    )
  norm = settings.projector_norm
  projector = MLP(
    whole_numbers("projector", settings.projector),
    norm=None if norm == "none" else norm,
    axis_name=setup.axis_name,
    dtype=setup.dtype,
  )
  return simclr(
    setup.encoder,
    projector,
    view,
    normalize=setup.normalize,
    temperature=settings.temperature,
    axis_name=setup.axis_name,
  )


METHOD = Method("simclr", objective, stem="conv", next_command="python -m experiments.simmim")


def main(settings: Settings) -> None:
  """Runs the experiment."""
  pretrain.run(METHOD, settings)


if __name__ == "__main__":
  run_app(main)
