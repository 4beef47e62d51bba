"""Queries by each of several models in galleries by each other."""

from collections.abc import Sequence

import numpy as np

from repjax.evaluate.embed import Embedded
from repjax.evaluate.search import search_gallery
from repjax.heads.search import Distance, cosine_distance


def cross_retrieval(
  queries: Sequence[Embedded],
  galleries: Sequence[Embedded],
  *,
  distance: Distance = cosine_distance,
) -> np.ndarray:
  """Accuracy of the nearest neighbour for every pair of a query model and a gallery model.

  Where widths differ, both are cut to the smaller one: models that grow keep the first dimensions
  for those before them.

  Args:
    queries: the same examples by each model.
    galleries: the same examples by each model, in the same order of models.
    distance: of rows to columns, see `repjax.heads.nearest_keys`; features are not centred.

  Returns:
    ``[models, models]`` float64, queries by row, for `repjax.measure.compatibility`. Unlabelled
    queries (-1) do not count.

  Raises:
    ValueError: if there are not as many galleries as queries, or they are not of the same examples.
  """
  if len(queries) != len(galleries) or not queries:
    raise ValueError(f"expected one gallery a model, got {len(queries)} and {len(galleries)}")
  for name, side in (("queries", queries), ("galleries", galleries)):
    if any(not np.array_equal(x.label, side[0].label) for x in side):
      raise ValueError(f"{name} of the models are not of the same examples; their labels differ")
  label, names = queries[0].label, galleries[0].label
  known = label >= 0
  matrix = np.empty((len(queries), len(galleries)))
  for i, query in enumerate(queries):
    for j, gallery in enumerate(galleries):
      width = min(query.features.shape[1], gallery.features.shape[1])
      sides = (x.features[:, :width] for x in (query, gallery))
      found = search_gallery(*sides, k=1, distance=distance).index[:, 0]
      matrix[i, j] = np.mean(names[found][known] == label[known])
  return matrix
