"""Retrieval from one index into which several domains are merged (UnED)."""

from collections.abc import Mapping

import numpy as np
from jax.sharding import Mesh

from repjax.evaluate.embed import Embedded
from repjax.evaluate.search import search_gallery
from repjax.heads.search import Distance, cosine_distance


def merged_retrieval(
  domains: Mapping[str, tuple[Embedded, Embedded | None]],
  *,
  distance: Distance = cosine_distance,
  mesh: Mesh | None = None,
) -> dict[str, float]:
  r"""Recall at 1 and modified precision at 5 over the merged index of all domains.

  What is found is right where it is of the query's domain and class. With :math:`n_q` right answers
  in the index and :math:`m_q = \min(n_q, 5)`:

  .. math:: \mathrm{mMP@5} = \frac1Q \sum_q \frac{1}{m_q} \sum_{j \le m_q} y_{qj}

  so that a query with less than five answers can reach 1. Every domain counts the same, whatever
  its number of queries. Queries without an answer in the index are left out, and unlabelled
  examples (-1) are in no index. One domain alone is the protocol of a specialist.

  Args:
    domains: by name, its index and its queries, in one space; labels are the domain's own. Without
      queries the index is searched for each of its rows, which do not find themselves.
    distance: of rows to columns, see `repjax.heads.nearest_keys`.
    mesh: devices of this process to split the index over.

  Returns:
    ``recall_at_1`` and ``mmp_at_5``, means over domains, in [0, 1]; ``same_domain_at_1``, how often
    what is found first is of the query's domain at all; the first two of each domain as
    ``recall_at_1/{domain}`` and ``mmp_at_5/{domain}``.

  Raises:
    ValueError: if dims differ, a domain has no query with an answer, or there are too few examples.

  References:
    Ypsilantis et al., `Towards Universal Image Embeddings: A Large-Scale Dataset and Challenge for
    Generic Image Representations <https://arxiv.org/abs/2309.01858>`_, 2023. Of its text the
    abstract was at hand; mMP@5 is that of the challenge it describes (Kaggle's Google Universal
    Image Embedding, 2022), which sums over the first :math:`m_q` alone.
  """
  dims = {split.features.shape[1] for pair in domains.values() for split in pair if split}
  if len(dims) != 1:
    raise ValueError(f"domains have features of dims {sorted(dims)}; embed all into one space")
  index, domain, label, places = [], [], [], {}
  size = 0
  for number, (name, (gallery, _)) in enumerate(domains.items()):
    kept = gallery.label >= 0
    index.append(gallery.features[kept])
    label.append(gallery.label[kept])
    domain.append(np.full(kept.sum(), number))
    places[name] = np.arange(size, size + kept.sum())
    size += int(kept.sum())
  index, domain, label = map(np.concatenate, (index, domain, label))
  if size < 6:
    raise ValueError(f"an index of {size} labelled examples is too small for mMP@5; give 6 or more")

  by_domain = {}
  for number, (name, (_, query)) in enumerate(domains.items()):
    within = query is None
    if within:
      features, asked, own = index[places[name]], label[places[name]], places[name]
    else:
      kept = query.label >= 0
      features, asked = query.features[kept], query.label[kept]
      own = np.full(len(asked), -1)
    names, counts = np.unique(label[domain == number], return_counts=True)
    count = dict(zip(names.tolist(), counts.tolist(), strict=True))
    total = np.array([count.get(int(c), 0) - within for c in asked], int)
    answered = total > 0
    if not answered.any():
      raise ValueError(f"domain {name!r} has no query with an answer in its index")
    features, asked, own, total = (x[answered] for x in (features, asked, own, total))
    # One more than is looked at, from which a query's own row is struck out.
    found = search_gallery(features, index, k=6, distance=distance, mesh=mesh).index
    first = np.argsort(found == own[:, None], 1, kind="stable")[:, :5]
    found = np.take_along_axis(found, first, 1)
    right = (domain[found] == number) & (label[found] == asked[:, None])
    most = np.minimum(total, 5)
    looked_at = np.arange(5)[None] < most[:, None]
    by_domain[name] = {
      "recall_at_1": float(right[:, 0].mean()),
      "mmp_at_5": float(np.mean(np.sum(right & looked_at, 1) / most)),
      "same_domain_at_1": float(np.mean(domain[found[:, 0]] == number)),
    }
  numbers = {
    metric: float(np.mean([row[metric] for row in by_domain.values()]))
    for metric in ("recall_at_1", "mmp_at_5", "same_domain_at_1")
  }
  for metric in ("recall_at_1", "mmp_at_5"):
    numbers |= {f"{metric}/{name}": row[metric] for name, row in by_domain.items()}
  return numbers
