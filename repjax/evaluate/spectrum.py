"""How much of their space features use, without a look at labels."""

import jax
import numpy as np

from repjax.evaluate.embed import Embedded
from repjax.measure import rank_me, uniformity


def spectrum(
  train: Embedded, test: Embedded, *, key: jax.Array, samples: int = 10_000
) -> dict[str, float]:
  """RankMe and uniformity of the train features.

  Args:
    train: what is measured, labelled or not.
    test: not used: neither number has anything to generalise; accepted as every evaluator does.
    key: of the examples drawn where there are more than ``samples``.
    samples: most examples that are looked at.

  Returns:
    ``rank_me``, between 1 and the width (see `repjax.measure.rank_me`), and ``uniformity``, between
    -8 and 0, lower where features lie more evenly (see `repjax.measure.uniformity`).

  Raises:
    ValueError: if there are less than two examples.

  References:
    Garrido et al., `RankMe <https://arxiv.org/abs/2210.02885>`_, 2023, eq. 1.
    Wang and Isola, `Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere <https://arxiv.org/abs/2005.10242>`_, 2020, section 4.
  """
  del test
  features = train.features
  if len(features) > samples:
    drawn = np.asarray(jax.random.permutation(key, len(features)))[:samples]
    features = features[np.sort(drawn)]
  return {
    "rank_me": float(_rank_me(features)),
    "uniformity": float(_uniformity(features)),
  }


_rank_me, _uniformity = jax.jit(rank_me), jax.jit(uniformity)
