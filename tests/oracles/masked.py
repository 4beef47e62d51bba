"""Writes masked.npz, latent.npz, distill.npz, relational.npz and nested.npz: answers of
torch.nn.functional, sentence-transformers and open_clip.

pip install -r tests/oracles/requirements.txt && python tests/oracles/masked.py
"""

import numpy as np
import torch
from answers import Answers
from open_clip.loss import DistillClipLoss
from sentence_transformers.sentence_transformer.losses import (
  EmbedDistillLoss,
  MatryoshkaLoss,
  MultipleNegativesRankingLoss,
)
from torch.nn import functional

TOKENS, HEADS = 6, 2


class Given(torch.nn.Module):
  """A model whose embeddings are its inputs."""

  def __init__(self, dim: int):
    super().__init__()
    self.dim = dim

  def get_embedding_dimension(self) -> int:
    return self.dim

  def forward(self, features: dict) -> dict:
    return dict(features)


def sizes():
  for batch, dim in ((7, 5), (16, 8)):
    yield batch, dim, f"{batch}x{dim}"


def masks(rng, batch):
  mask = rng.uniform(size=(batch, TOKENS)) < 0.6
  mask[:, 0] = True
  return mask


def masked() -> None:
  answers, rng = Answers("masked"), np.random.default_rng(0)
  for batch, dim, size in sizes():
    logits = 2 * rng.normal(size=(batch, TOKENS, dim))
    targets = rng.integers(dim, size=(batch, TOKENS), dtype=np.int32)

    def of_each(logits, targets, mask):
      targets = torch.where(mask, targets.long(), -100)
      pairs = zip(logits, targets, strict=True)
      return torch.stack([functional.cross_entropy(x, y) for x, y in pairs]).mean()

    arrays = {"logits": logits, "targets": targets, "mask": masks(rng, batch)}
    answers.add(f"masked_tokens_torch_{size}", of_each, **arrays)
  answers.write()


def latent() -> None:
  answers, rng = Answers("latent"), np.random.default_rng(1)
  for batch, dim, size in sizes():
    prediction, target = rng.normal(size=(2, batch, TOKENS, dim))
    arrays = {"prediction": prediction, "target": target, "mask": masks(rng, batch)}

    def add(name, loss, normalize=False, arrays=arrays, size=size):
      def of_each(prediction, target, mask):
        target = target.detach()
        if normalize:
          target = functional.layer_norm(target, target.shape[-1:])
        rows = zip(prediction, target, mask, strict=True)
        return torch.stack([loss(x[keep], y[keep]) for x, y, keep in rows]).mean()

      answers.add(f"{name}_torch_{size}", of_each, **arrays)

    add("latent_prediction", functional.smooth_l1_loss, normalize=True)
    add("latent_prediction_data2vec", lambda x, y: functional.smooth_l1_loss(x, y, beta=0.5))
    add("latent_prediction_l1", functional.l1_loss)
    add("latent_prediction_l2", functional.mse_loss)

    def aligned(student, teacher, mask):
      unit = functional.normalize
      rows = zip(student, teacher.detach(), ~mask, strict=True)
      squares = [((unit(x[keep]) - unit(y[keep])) ** 2).sum(-1).mean() for x, y, keep in rows]
      return torch.stack(squares).mean()

    hidden = masks(rng, batch)
    hidden[:, 0] = False
    arrays = {"student": prediction, "teacher": target, "mask": hidden}
    answers.add(f"unmasked_alignment_torch_{size}", aligned, **arrays)
  answers.write()


def distill() -> None:
  answers = Answers("distill", "sentence-transformers")
  rng = np.random.default_rng(2)
  for batch, dim, size in sizes():
    pair = {name: rng.normal(size=(batch, dim)) for name in ("student", "teacher")}

    def add(name, loss, pair=pair, size=size):
      stopped = lambda student, teacher: loss(student, teacher.detach())
      answers.add(f"{name}_{size}", stopped, **pair)

    def kl(student, teacher):
      student, teacher = student.log_softmax(-1), teacher.log_softmax(-1)
      return functional.kl_div(student, teacher, reduction="none", log_target=True).sum(-1).mean()

    add("soft_labels_torch", lambda s, t: 9 * kl(s / 3, t / 3))
    add("feature_smooth_l1_torch", lambda s, t: functional.smooth_l1_loss(s, t, beta=0.7))
    for name, metric in (("feature_cosine", "cosine"), ("feature_l2", "mse")):
      loss = EmbedDistillLoss(Given(dim), distance_metric=metric)
      of_pair = lambda s, t, loss=loss: loss.compute_loss_from_embeddings([s], [t])
      add(f"{name}_sentence_transformers", of_pair)
    shape = batch, HEADS, TOKENS, TOKENS
    maps = {name: rng.normal(size=shape) for name in ("student", "teacher")}
    add("attention_kl_torch", kl, maps)
  answers.write()


def relational() -> None:
  answers, rng = Answers("relational", "open_clip_torch"), np.random.default_rng(4)
  for batch, dim, size in sizes():
    names = [f"{kind}_{side}" for kind in ("student", "teacher") for side in ("image", "text")]
    clip = {name: rng.normal(size=(batch, dim)) for name in names}

    def clip_loss(student_image, student_text, teacher_image, teacher_text):
      unit = functional.normalize
      teacher = unit(teacher_image.detach()), unit(teacher_text.detach())
      return DistillClipLoss()(unit(student_image), unit(student_text), 10.0, *teacher, 8.0)[1]

    answers.add(f"affinity_mimicking_open_clip_{size}", clip_loss, **clip)
  answers.write()


def nested() -> None:
  answers, rng = Answers("nested", "sentence-transformers"), np.random.default_rng(3)
  for batch, dim, size in sizes():
    pair = {name: rng.normal(size=(batch, dim)) for name in ("query", "key")}
    model = Given(dim)
    inner = MultipleNegativesRankingLoss(model, scale=5.0)
    loss = MatryoshkaLoss(model, inner, [5, 4, 2], [1.0, 0.5, 0.3])

    def of_given(query, key, loss=loss):
      return loss([{"sentence_embedding": query}, {"sentence_embedding": key}], None)

    answers.add(f"info_nce_sentence_transformers_{size}", of_given, **pair)
  answers.write()


def main() -> None:
  torch.set_default_dtype(torch.float64)
  for write in (masked, latent, distill, relational, nested):
    write()


if __name__ == "__main__":
  main()
