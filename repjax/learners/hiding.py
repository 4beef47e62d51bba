"""What a network is kept from seeing of a view that its teacher sees whole."""

from collections.abc import Callable

import jax

from repjax.augment import block_mask
from repjax.learners.masking import patch_grid

Hide = Callable[[jax.Array, jax.Array], dict[str, jax.Array]]


def hide_blocks(
  patch_size: int,
  *,
  ratio: float | tuple[float, float] = (0.1, 0.5),
  probability: float = 0.5,
  min_block: int = 4,
) -> Hide:
  """Hides blocks of patches of some of the views.

  Args:
    patch_size: that of the encoder, in pixels.
    ratio: share of the patches, or least and greatest of a share that is drawn, in [0, 1].
    probability: of hiding anything in a view, in [0, 1].
    min_block: least area of a block in patches.

  Returns:
    ``(key, view) -> {"mask": [patches] bool}``, for `joint_embedding`.

  References:
    Zhou et al., `iBOT: Image BERT Pre-Training with Online Tokenizer
    <https://arxiv.org/abs/2111.07832>`_, 2021, section 4: nothing is hidden in half of the views,
    10 to 50 % in the others. DINOv2's configuration has the same.
  """

  def hide(key, view):
    k_some, k_mask = jax.random.split(key)
    grid = patch_grid(view, patch_size)
    mask = block_mask(k_mask, grid, ratio=ratio, min_block=min_block).reshape(-1)
    return {"mask": mask & jax.random.bernoulli(k_some, probability)}

  return hide
