"""CrossViT: patches of two sizes, joined by cross-attention of class tokens or otherwise.

  python -m experiments.crossvit --data=npz:data/cifar10.npz

trains classifiers of 10,000 images of CIFAR-10 at 16x16 pixels, all by one recipe and all of equal
multiply-adds within 7%: CrossViT with patches of two and of four pixels (``crossvit``), the same
without cross-attention, so that the classifier alone reads both class tokens (``concatenated``, its
feed-forward layers wider for it), and a deeper ViT of either size of patches. ``accuracy`` is of
5,000 test images; ``raw_pixels`` tells them by their 20 nearest neighbours.

``fusion_growth`` says how many times dearer all cross-attention becomes where there are
``token_growth`` times as many tokens; attention among all tokens would grow with the square.

A seed takes five and a half minutes of one core. Over three seeds (3 to 5) cross-attention does not
help: CrossViT classifies 0.463 ± 0.007 of the images, branches that meet in the classifier alone
0.490 ± 0.010, beyond the noise; small patches alone have 0.475, large ones 0.458, both within it,
and pixels 0.402. After 220 steps (seeds 0 to 2) it was 0.360 against 0.378. The cost is as claimed:
on an image of twice the side cross-attention is 3.7 times as dear, of 3.9 times as many tokens
(results/crossvit.json).
"""

import jax
from flax import linen as nn

from experiments import claim, contest
from repjax.encoders import CrossViT, Features, ViT
from repjax.train.launch import Settings, run_app


class Apart(nn.Module):
  """A CrossViT whose branches meet in the classifier alone, which reads both class tokens.

  Attributes:
    crossvit: the whole.
  """

  crossvit: CrossViT

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> Features:
    """Encodes images."""

    def apart(call, args, kwargs, context):
      alone = context.module.name in ("cross_0", "cross_1") and context.method_name == "__call__"
      return args[0] if alone else call(*args, **kwargs)

    with nn.intercept_methods(apart):
      return self.crossvit(image, train=train)


CROSS = CrossViT((2, 4), (32, 64), (1, 1), (4, 4), 2, 2)
ENCODERS = {
  "crossvit": CROSS,
  "concatenated": Apart(CrossViT((2, 4), (32, 64), (1, 1), (4, 4), 2, 3)),
  "small_patches": ViT(2, 32, 4, 4, pool="cls", positions="learned", mlp_ratio=2),
  "large_patches": ViT(4, 64, 5, 4, pool="cls", positions="learned", mlp_ratio=2.5),
}


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Trains CrossViT and its rivals, and counts what the branches' meetings cost."""
  numbers = contest.compare(ENCODERS, settings, seed=seed)
  small, large = cost_of_fusion(16), cost_of_fusion(32)
  numbers["crossvit"] |= {
    "fusion_million_multiply_adds": small / 1e6,
    "fusion_growth": large / small,
    "token_growth": (2 + 16**2 + 8**2) / (2 + 8**2 + 4**2),
  }
  return numbers


def cost_of_fusion(side: int) -> float:
  """Multiply-adds of all cross-attention for one image."""
  cost = lambda encoder: contest.cost(encoder, (side, side, 3))
  return cost(CROSS) - cost(Apart(CROSS))


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("crossvit", study, settings, described=contest.described(settings))


if __name__ == "__main__":
  run_app(main)
