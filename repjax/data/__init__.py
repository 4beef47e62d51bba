"""From a name to batches of uint8 images."""

from repjax.data.order import indices
from repjax.data.source import (
  Arrays,
  Dataset,
  Fitted,
  Source,
  Subset,
  channel_statistics,
  holdout,
  in_memory,
  nbytes,
  take,
)
from repjax.data.spec import load
from repjax.data.stream import batches, once

__all__ = [
  "Arrays",
  "Dataset",
  "Fitted",
  "Source",
  "Subset",
  "batches",
  "channel_statistics",
  "holdout",
  "in_memory",
  "indices",
  "load",
  "nbytes",
  "once",
  "take",
]
