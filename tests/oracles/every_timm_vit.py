"""Holds every transformer of `repjax.pretrained.TIMM_VITS` against timm's, two blocks of each.

Run from the repository's root in the environment of requirements.txt, with repjax; it writes
nothing, takes some minutes, and ends with an error if any pooled feature or weight differs:

  pip install -e . && python tests/oracles/every_timm_vit.py
"""

import jax
import numpy as np
import timm
import torch
from drawn import draw, images

from repjax.pretrained import TIMM_VITS, timm_model, vit_rules
from repjax.trees import convert, revert


def differs(name: str) -> bool:
  """Whether drawn weights give another pooled feature here, or do not come back as they were."""
  entry = TIMM_VITS[name]
  side = 4 * entry.patch
  small = {"num_classes": 0, "depth": 2, "img_size": side}
  theirs = timm.create_model(name.partition(".")[0], **small)
  draw(theirs)
  state = {key: tensor.numpy() for key, tensor in theirs.state_dict().items()}

  model = timm_model(name)
  sized = {} if model.encoder.image_size is None else {"image_size": side}
  encoder = model.encoder.clone(depth=2, **sized)
  rules = vit_rules(encoder, entry.style.names)
  image = images(side).permute(0, 2, 3, 1).numpy()
  like = jax.eval_shape(encoder.init, jax.random.key(0), image)
  variables = convert(state, rules, like, unused=model.unused, name=name)
  pooled = jax.jit(encoder.apply)(variables, image).pooled
  with torch.no_grad():
    expected = theirs(images(side)).numpy()
  error = np.abs(pooled - expected).max() / np.abs(expected).max()
  back = revert(variables, rules)
  same = all(np.array_equal(tensor, state[key]) for key, tensor in back.items())
  print(f"{name:50s} {error:.1e}{'' if same else ', other weights came back'}", flush=True)
  return error > 1e-4 or not same


def main() -> None:
  found = [name for name in TIMM_VITS if differs(name)]
  if found:
    raise SystemExit(f"not timm's: {', '.join(found)}")


if __name__ == "__main__":
  main()
