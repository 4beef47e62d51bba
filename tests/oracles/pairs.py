"""Writes triplets.npz, pair_losses.npz, tuplet.npz and miners.npz.

Answers of pytorch-metric-learning and of sentence-transformers.

pip install -r tests/oracles/requirements.txt && python tests/oracles/pairs.py
"""

import numpy as np
import torch
from answers import Answers
from pytorch_metric_learning import distances, losses, miners
from pytorch_metric_learning.reducers import MeanReducer
from sentence_transformers.sentence_transformer import losses as sentence

SQUARED = {"distance": distances.LpDistance(power=2), "reducer": MeanReducer()}
PLAIN = {"distance": distances.LpDistance(normalize_embeddings=False), "reducer": MeanReducer()}
MANHATTAN = distances.LpDistance(p=1, normalize_embeddings=False)
COSINE = {"distance": distances.CosineSimilarity(), "reducer": MeanReducer()}
PACKAGES = "pytorch-metric-learning", "sentence-transformers"


def batches(rng):
  """Few classes, of several members each; one of which, in the second batch, of only one."""
  labels = np.arange(13) % 4
  yield "13x5", {"embeddings": rng.normal(size=(13, 5)), "labels": labels.astype(np.int32)}
  labels = np.append(np.arange(11) % 3, 3)
  yield "12x4", {"embeddings": rng.normal(size=(12, 4)), "labels": labels.astype(np.int32)}


def of_embeddings(loss):
  return lambda embeddings, labels: loss.compute_loss_from_embeddings([embeddings], labels)


def triplets() -> None:
  answers = Answers("triplets", *PACKAGES)
  for size, batch in batches(np.random.default_rng(0)):

    def add(name, loss, miner=None, size=size, batch=batch):
      def value(embeddings, labels):
        return loss(embeddings, labels, miner(embeddings.detach(), labels) if miner else None)

      answers.add(f"{name}_{size}", value, **batch)

    add("all", losses.TripletMarginLoss(margin=0.5, **PLAIN))
    add("all_squared", losses.TripletMarginLoss(margin=0.2, **SQUARED))
    add("all_cosine", losses.TripletMarginLoss(margin=0.2, **COSINE))
    add("all_soft", losses.TripletMarginLoss(margin=0.1, smooth_loss=True, **PLAIN))
    add("all_active", losses.TripletMarginLoss(margin=0.5, distance=PLAIN["distance"]))
    hard = miners.BatchHardMiner(distance=MANHATTAN)
    loss = losses.TripletMarginLoss(margin=0.5, distance=MANHATTAN, reducer=MeanReducer())
    add("hard_manhattan", loss, hard)
    options = {"distance_metric": sentence.BatchHardTripletLossDistanceFunction.euclidean_distance}
    name = lambda kind, size=size: f"{kind}_sentence_{size}"
    loss = sentence.BatchAllTripletLoss(None, margin=0.5, **options)
    answers.add(name("all_active"), of_embeddings(loss), **batch)
    loss = sentence.BatchSemiHardTripletLoss(None, margin=0.5, **options)
    answers.add(name("semi_hard"), of_embeddings(loss), **batch)
    if size == "13x5":  # the others count anchors without a positive
      loss = sentence.BatchHardTripletLoss(None, margin=0.5, **options)
      answers.add(name("hard"), of_embeddings(loss), **batch)
      loss = sentence.BatchHardSoftMarginTripletLoss(None, **options)
      answers.add(name("hard_soft"), of_embeddings(loss), **batch)
  rows = np.random.default_rng(7).normal(size=(3, 9, 5))
  rows = dict(zip(("anchor", "positive", "negative"), rows, strict=True))
  loss = sentence.TripletLoss(None, triplet_margin=1)
  of_rows = lambda **rows: loss.compute_loss_from_embeddings(list(rows.values()), None)
  answers.add("given_9x5", of_rows, **rows)
  answers.write()


def pairs() -> None:
  answers = Answers("pair_losses", *PACKAGES)
  rng = np.random.default_rng(6)
  views = {"z_1": rng.normal(size=(9, 3)), "z_2": rng.normal(size=(9, 3))}
  loss = sentence.ContrastiveLoss(None)
  of_views = lambda z_1, z_2, same: loss.compute_loss_from_embeddings([z_1, z_2], same.long())
  answers.add("given_9x3", of_views, same=np.arange(9) % 3 == 0, **views)
  for size, batch in batches(np.random.default_rng(1)):
    margins = {"pos_margin": 0.2, "neg_margin": 1.1, "reducer": MeanReducer()}
    answers.add(f"contrastive_{size}", losses.ContrastiveLoss(**margins), **batch)
    answers.add(f"snr_{size}", losses.SignalToNoiseRatioContrastiveLoss(**margins), **batch)
    loss = losses.IntraPairVarianceLoss(pos_eps=0.02, neg_eps=0.05)
    answers.add(f"variance_{size}", loss, **batch)
    loss = losses.MarginLoss(nu=0.1, learn_beta=True, num_classes=4)

    def of_boundary(embeddings, labels, beta, loss=loss):
      return torch.func.functional_call(loss, {"beta": beta}, (embeddings, labels))

    beta = np.random.default_rng(2).uniform(1, 1.4, 4)
    answers.add(f"margin_{size}", of_boundary, beta=beta, **batch)
  answers.write()


def tuplets() -> None:
  answers = Answers("tuplet", *PACKAGES)
  for size, batch in batches(np.random.default_rng(3)):
    answers.add(f"tuplet_margin_{size}", losses.TupletMarginLoss(scale=16), **batch)
    answers.add(f"lifted_{size}", losses.LiftedStructureLoss(neg_margin=1.2), **batch)
    answers.add(f"nca_{size}", losses.NCALoss(softmax_scale=2), **batch)
    if size == "13x5":  # the other has an anchor without a positive
      loss = losses.GeneralizedLiftedStructureLoss(pos_margin=0.1, neg_margin=1.2)
      answers.add(f"generalized_lifted_{size}", loss, **batch)
  rng = np.random.default_rng(4)
  halves = {"anchor": rng.normal(size=(7, 5)), "positive": rng.normal(size=(7, 5))}
  loss = losses.NPairsLoss(distance=distances.DotProductSimilarity(normalize_embeddings=False))
  labels = torch.arange(14) % 7
  of_halves = lambda anchor, positive: loss(torch.cat([anchor, positive]), labels)
  answers.add("n_pairs_7x5", of_halves, **halves)
  answers.write()


def mined() -> None:
  """A loss over the pairs that a miner lists; a pair that it lists twice counts twice."""
  answers = Answers("miners", *PACKAGES)
  distance = distances.LpDistance()
  listed = {
    "batch_hard": miners.BatchHardMiner(distance=distance),
    "easy_semi_hard": miners.BatchEasyHardMiner("easy", "semihard", distance=distance),
    "easy_hard": miners.BatchEasyHardMiner("easy", "hard", distance=distance),
    "violated": miners.TripletMarginMiner(margin=0.3, distance=distance),
    "semi_hard": miners.TripletMarginMiner(0.3, "semihard", distance=distance),
    "angular": miners.AngularMiner(angle=35),
    "multi_similarity": miners.MultiSimilarityMiner(epsilon=0.05),
    "margin": miners.PairMarginMiner(pos_margin=0.9, neg_margin=1.1, distance=distance),
  }
  loss = losses.ContrastiveLoss(pos_margin=0.2, neg_margin=1.5, reducer=MeanReducer())
  for size, batch in batches(np.random.default_rng(5)):
    for name, miner in listed.items():

      def value(embeddings, labels, miner=miner):
        return loss(embeddings, labels, miner(embeddings.detach(), labels))

      answers.add(f"{name}_{size}", value, **batch)
  answers.write()


def main() -> None:
  torch.set_default_dtype(torch.float64)
  triplets()
  pairs()
  tuplets()
  mined()


if __name__ == "__main__":
  main()
