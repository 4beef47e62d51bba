"""Writes language.npz: answers of torch, open_clip, sentence-transformers and timm.

pip install -r tests/oracles/requirements.txt && python tests/oracles/language.py
"""

import numpy as np
import torch
from answers import Answers
from open_clip.loss import CoCaLoss
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.losses import gist_embed
from timm.loss import AsymmetricLossMultiLabel
from torch.nn.functional import cross_entropy, kl_div, log_softmax

VOCABULARY = 7


def main() -> None:
  torch.set_default_dtype(torch.float64)
  packages = ("open_clip_torch", "sentence-transformers", "timm")
  answers = Answers("language", *packages)
  rng = np.random.default_rng(0)
  tokens_(answers, rng)
  matching(answers, rng)
  sentences(answers, rng)
  tags(answers, rng)
  answers.write()


def tokens_(answers: Answers, rng: np.random.Generator) -> None:
  logits = rng.normal(size=(6, 5, VOCABULARY))
  hidden = rng.integers(VOCABULARY, size=(6, 5), dtype=np.int32)
  hidden[rng.random((6, 5)) < 0.5] = -100
  tokens = rng.integers(VOCABULARY, size=(6, 5), dtype=np.int32)

  def masked(logits, labels, smoothing):
    flat = logits.flatten(0, 1), labels.flatten().long()
    return cross_entropy(*flat, ignore_index=-100, label_smoothing=smoothing)

  for name, smoothing in (("", 0.0), ("_smooth", 0.1)):
    loss = lambda logits, labels, s=smoothing: masked(logits, labels, s)
    answers.add(f"masked_tokens{name}_torch", loss, logits=logits, labels=hidden)
    loss = lambda logits, tokens, s=smoothing: masked(logits[:, :-1], tokens[:, 1:], s)
    answers.add(f"next_token{name}_torch", loss, logits=logits, tokens=tokens)

  coca = CoCaLoss(caption_loss_weight=1.0, clip_loss_weight=0.0, pad_id=0)
  loss = lambda logits, tokens: coca(None, None, logits[:, :-1], tokens[:, 1:].long(), None)[1]
  answers.add("captioning_open_clip", loss, logits=logits, tokens=tokens)


def matching(answers: Answers, rng: np.random.Generator) -> None:
  def two_way(positive, negatives):
    """As in ALBEF: one cross entropy of a head with two logits, over all pairs."""
    score = torch.cat([positive, negatives[:, 0], negatives[:, 1]])
    labels = torch.arange(len(score)) < len(positive)
    return cross_entropy(torch.stack([-score / 2, score / 2], 1), labels.long())

  pairs = {"positive": rng.normal(size=6), "negatives": rng.normal(size=(6, 2))}
  answers.add("image_text_matching_torch", two_way, **pairs)

  def soft(logits, target):
    terms = kl_div(log_softmax(logits, -1), target.detach(), reduction="none")
    return terms.sum(-1).mean()

  target = rng.dirichlet(np.ones(5), size=(6, 4))
  logits = rng.normal(size=(6, 4, 5))
  answers.add("masked_soft_labels_torch", soft, logits=logits, target=target)


def sentences(answers: Answers, rng: np.random.Generator) -> None:
  z_1, z_2 = rng.normal(size=(2, 12, 6))
  score = rng.integers(5, size=12) / 4
  for name, loss in (("cosent", losses.CoSENTLoss(None)), ("angle", losses.AnglELoss(None))):
    of = lambda z_1, z_2, score, loss=loss: loss.compute_loss_from_embeddings([z_1, z_2], score)
    answers.add(f"{name}_sentence_transformers", of, z_1=z_1, z_2=z_2, score=score)
  angle = losses.AnglELoss(None)
  of = lambda z_1, z_2, score: angle.compute_loss_from_embeddings([z_1, z_2], score)
  answers.add("angle_odd_sentence_transformers", of, z_1=z_1[:, 1:], z_2=z_2[:, 1:], score=score)

  query, key, other = rng.normal(size=(3, 12, 6))
  guide_query, guide_key = rng.normal(size=(2, 12, 4))
  guide_key += 2 * guide_query
  four = {"query": query, "key": key, "guide_query": guide_query, "guide_key": guide_key}
  # A model is a name here, and embeds a column by looking its own embedding up.
  gist_embed.embed_columns = lambda model, columns: [column[model] for column in columns]
  for name, margin, within in (("", 0.0, True), ("_margin", 0.2, True), ("_one_way", 0.0, False)):
    gist = losses.GISTEmbedLoss.__new__(losses.GISTEmbedLoss)
    torch.nn.Module.__init__(gist)
    settings = {"model": "student", "guide": "guide", "must_retokenize": False}
    settings |= {"temperature": 0.1, "margin": margin, "margin_strategy": "absolute"}
    settings |= {"contrast_anchors": within, "contrast_positives": within}
    settings |= {"similarity_fct": torch.nn.CosineSimilarity(dim=-1)}
    settings |= {"gather_across_devices": False}
    for field, value in (settings | {"cross_entropy_loss": torch.nn.CrossEntropyLoss()}).items():
      setattr(gist, field, value)

    def guided(query, key, guide_query, guide_key, gist=gist):
      columns = [{"student": query, "guide": guide_query}, {"student": key, "guide": guide_key}]
      return gist(columns, None)

    answers.add(f"guided_info_nce{name}_sentence_transformers", guided, **four)

  ranking = losses.MultipleNegativesRankingLoss(None)
  of = lambda query, key: ranking.compute_loss_from_embeddings([query, key], None)
  answers.add("info_nce_sentence_transformers", of, query=query, key=key)

  margin = losses.MarginMSELoss(None)

  def margins(query, key, other, more, teacher):
    return margin.compute_loss_from_embeddings([query, key, other, more], teacher)

  more = rng.normal(size=(12, 6))
  teacher = rng.normal(size=(12, 3))
  arrays = {"query": query, "key": key, "other": other, "more": more, "teacher": teacher}
  answers.add("margin_mse_sentence_transformers", margins, **arrays)


def tags(answers: Answers, rng: np.random.Generator) -> None:
  logits = 2 * rng.normal(size=(6, 9))
  labels = rng.integers(2, size=(6, 9), dtype=np.int32)
  # It computes in float32 whatever comes in; with this it stays in float64.
  torch.Tensor.float = torch.Tensor.double
  for name, held in (("", False), ("_held", True)):
    loss = AsymmetricLossMultiLabel(disable_torch_grad_focal_loss=held)
    answers.add(f"asymmetric{name}_timm", loss, x=logits, y=labels)


if __name__ == "__main__":
  main()
