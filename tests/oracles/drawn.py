"""PyTorch models with weights that are drawn by a rule, so that fixtures hold answers alone."""

import json

import torch
from encoders import weights


def draw(model: torch.nn.Module) -> str:
  """Draws the weights of a model and puts it into evaluation mode.

  Args:
    model: any; it is changed.

  Returns:
    Shapes by name, as JSON, from which a test draws the same.
  """
  state = model.state_dict()
  shapes = {k: tuple(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")}
  drawn = {k: torch.from_numpy(weights(k, shape)) for k, shape in shapes.items()}
  model.load_state_dict(drawn, strict=False)
  model.eval()
  return json.dumps(shapes)


def images(*sides: int) -> torch.Tensor:
  """Two images.

  Args:
    *sides: height and width, or one for both.

  Returns:
    ``[2, 3, height, width]``.
  """
  return torch.from_numpy(weights("image", (2, sides[0], sides[-1], 3))).permute(0, 3, 1, 2)
