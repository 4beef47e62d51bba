"""Writes prototype.npz: answers of lightly, and of torch where a loss is one of its functions.

pip install -r tests/oracles/requirements.txt && python tests/oracles/prototype.py
"""

import numpy as np
import torch
from answers import Answers
from lightly.loss import DINOLoss, IBOTPatchLoss, MSNLoss, SwaVLoss
from lightly.loss.swav_loss import sinkhorn
from torch.nn import functional


def at_center(loss, center):
  """A loss of lightly with its running mean set to a given centre."""
  if isinstance(loss, DINOLoss):
    loss.center = center[None, None]
  else:
    loss.center.center = center[None]
  return loss


def swav(scores, temperature):
  loss = SwaVLoss(temperature=temperature, sinkhorn_iterations=3, sinkhorn_epsilon=0.3)
  return loss(list(scores[:2]), list(scores[2:]))[0]


def dino(student, teacher, center, teacher_temperature):
  loss = at_center(DINOLoss(student.shape[-1]), center.detach())
  return loss(list(teacher.detach()), list(student), teacher_temp=teacher_temperature)


def moved_center(weights, center, teacher):
  loss = at_center(DINOLoss(len(center), center_momentum=0.8), center.detach())
  loss.update_center(teacher.detach())
  return torch.sum(weights * loss.center[0, 0])


def ibot(student, teacher, mask, center):
  loss = at_center(IBOTPatchLoss(student.shape[-1]), center.detach())
  return loss(teacher.detach()[mask], student[mask], mask[..., None])


def moved_patch_center(weights, center, teacher, mask):
  loss = at_center(IBOTPatchLoss(len(center), center_momentum=0.8), center.detach())
  loss.center.update(teacher.detach()[mask])
  return torch.sum(weights * loss.center.value[0])


def msn(anchors, targets, prototypes, **options):
  return MSNLoss(**options)(anchors.flatten(0, 1), targets, prototypes)


def deepcluster(embeddings, prototypes, labels):
  cosines = functional.normalize(embeddings) @ functional.normalize(prototypes).T
  return functional.cross_entropy(cosines / 0.1, labels.long())


def main() -> None:
  torch.set_default_dtype(torch.float64)
  answers = Answers("prototype", "lightly")
  rng = np.random.default_rng(0)
  for batch, dim in ((7, 5), (16, 8)):
    normal = lambda *shape: rng.normal(size=shape)
    size, k = f"{batch}x{dim}", dim + 1

    # The gradient of the weights is the whole matrix of assignments.
    scores = {"weights": normal(batch, k), "scores": rng.uniform(-1, 1, (batch, k))}
    for iterations, epsilon in ((3, 0.05), (10, 0.3)):
      answers.add(
        f"sinkhorn_{iterations}_lightly_{size}",
        lambda weights, scores, i=iterations, e=epsilon: torch.sum(
          weights * sinkhorn(scores.detach(), i, e)
        ),
        **scores,
      )

    views = {"scores": rng.uniform(-1, 1, (4, batch, k))}
    answers.add(f"swav_lightly_{size}", lambda scores: swav(scores, 0.2), **views)

    crops = {
      "student": normal(4, batch, k),
      "teacher": normal(2, batch, k),
      "center": normal(k),
    }
    answers.add(f"dino_lightly_{size}", lambda **x: dino(**x, teacher_temperature=0.07), **crops)
    teacher = {"weights": normal(k), "center": crops["center"], "teacher": crops["teacher"]}
    answers.add(f"update_center_lightly_{size}", moved_center, **teacher)

    mask = rng.uniform(size=(batch, 4)) < 0.5
    mask[0] = False
    patches = {
      "student": normal(batch, 4, k),
      "teacher": normal(batch, 4, k),
      "mask": mask,
      "center": normal(k),
    }
    answers.add(f"ibot_lightly_{size}", ibot, **patches)
    teacher = {"weights": normal(k), **{n: patches[n] for n in ("center", "teacher", "mask")}}
    answers.add(f"update_patch_center_lightly_{size}", moved_patch_center, **teacher)

    masked = {
      "anchors": normal(3, batch, dim),
      "targets": normal(batch, dim),
      "prototypes": normal(k, dim),
    }
    answers.add(
      f"msn_lightly_{size}", lambda **x: msn(**x, temperature=0.2, sinkhorn_iterations=3), **masked
    )
    unbalanced = {"temperature": 0.2, "sinkhorn_iterations": 0, "regularization_weight": 2.0}
    answers.add(f"msn_unbalanced_lightly_{size}", lambda o=unbalanced, **x: msn(**x, **o), **masked)

    clustered = {
      "embeddings": normal(batch, dim),
      "prototypes": normal(k, dim),
      "labels": rng.integers(k, size=batch, dtype=np.int32),
    }
    answers.add(f"deepcluster_torch_{size}", deepcluster, **clustered)
  answers.write()


if __name__ == "__main__":
  main()
