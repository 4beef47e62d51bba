"""Merging of similar tokens: ToMe, PiToMe, and merging at random as a control."""

import jax
import jax.numpy as jnp
import numpy as np

from repjax.arrays import at_least_float32, l2_normalize
from repjax.select.tokens import Reduction, check_left, reduction_into


def tome(keys: jax.Array, left: int, *, offset: int = 1) -> Reduction:
  """ToMe: bipartite soft matching of alternate tokens.

  Every other token is a source. Each finds the most similar of the rest by cosine, and the sources
  that are most similar to theirs are merged into it.

  Args:
    keys: ``[batch, tokens, dim]``, what tokens are compared by: the mean over heads of a block's
      keys, without class token and registers.
    left: how many to leave, at least half of them.
    offset: place of the first source, 0 or 1; 1 as in the official code behind a class token.

  Returns:
    The reduction, for `repjax.select.merge`: unmerged sources first, then the others, as in the
    official code, whose next block alternates in that order.

  Raises:
    ValueError: if more are to go than there are sources.

  References:
    Bolya et al., `Token Merging: Your ViT But Faster <https://arxiv.org/abs/2210.09461>`_, 2022,
    section 3.
  """
  tokens = keys.shape[1]
  places = np.arange(tokens)
  source, other = places[offset::2], places[1 - offset :: 2]
  check_left(left, tokens, tokens - len(source))
  unit = l2_normalize(at_least_float32(keys))
  scores = jnp.einsum("bsd,btd->bst", unit[:, source], unit[:, other])
  rows = lambda x: jnp.broadcast_to(jnp.asarray(x)[None], (len(keys), len(x)))
  source, other = rows(source), rows(other)
  into = _match(scores, source, other, left, tokens)
  alone = jnp.take_along_axis(into, source, 1) == source
  first = jnp.argsort(~alone, 1, stable=True)[:, : left - other.shape[1]]
  kept = jnp.concatenate([jnp.take_along_axis(source, first, 1), other], 1)
  return reduction_into(into, left, kept)


def token_energy(keys: jax.Array, *, margin: float, alpha: float = 1.0) -> jax.Array:
  """PiToMe's energy: high where many tokens are similar, low where a token stands alone.

  The mean over all tokens j of ``f(cos(i, j))`` with ``f(x) = x - margin`` above the margin and
  ``alpha * (exp(x - margin) - 1)`` below.

  Args:
    keys: ``[batch, tokens, dim]``.
    margin: cosine below which tokens hardly count.
    alpha: how much they do.

  Returns:
    ``[batch, tokens]``, float32 at least.

  References:
    Tran et al., `Accelerating Transformers with Spectrum-Preserving Token Merging
    <https://arxiv.org/abs/2405.16148>`_, 2024, eq. 4. That of the official code, which this
    follows, is ELU of ``x - margin`` and counts a token itself.
  """
  return _energy(_cosines(keys), margin, alpha)


def pitome(
  keys: jax.Array,
  left: int,
  *,
  margin: float,
  alpha: float = 1.0,
  candidates: int | None = None,
) -> Reduction:
  """PiToMe: tokens of high energy are merged, those that stand alone are protected.

  The ``2 r`` tokens of highest `token_energy`, ``r`` being how many have to go, are split
  alternately in the order of energy, so that like tokens come to lie in both halves; each of the
  first half is merged into the most similar of the second.

  Args:
    keys: ``[batch, tokens, dim]``, without class token and registers.
    left: how many to leave, at least half of them.
    margin: see `token_energy`; the official code has ``0.9 - 0.8 * layer / depth`` for DeiT.
    alpha: see `token_energy`.
    candidates: how many tokens of highest energy are split; if more than ``2 r``, those first ones
      are merged that are most similar to theirs. ``2 r`` if absent; all in some layers of the
      official code (its ``pitome_bsm``).

  Returns:
    The reduction, for `repjax.select.merge`.

  Raises:
    ValueError: if more are to go than half of the candidates.

  References:
    Tran et al., `Accelerating Transformers with Spectrum-Preserving Token Merging
    <https://arxiv.org/abs/2405.16148>`_, 2024, as in the official code.
  """
  tokens = keys.shape[1]
  candidates = 2 * (tokens - left) if candidates is None else candidates
  check_left(left, tokens, tokens - (min(candidates, tokens) + 1) // 2)
  cosine = _cosines(keys)
  chosen = jnp.argsort(-_energy(cosine, margin, alpha), 1)[:, :candidates]
  source, other = chosen[:, ::2], chosen[:, 1::2]
  if left == tokens:
    source, other = chosen[:, :0], jnp.zeros((len(keys), 1), chosen.dtype)
  scores = jax.vmap(lambda c, s, o: c[s[:, None], o[None]])(cosine, source, other)
  return reduction_into(_match(scores, source, other, left, tokens), left)


def random_merging(key: jax.Array, batch: int, tokens: int, left: int) -> Reduction:
  """Merges tokens drawn at random into others drawn at random: a control.

  Args:
    key: of the draws.
    batch: rows, each with draws of its own.
    tokens: in each.
    left: how many to leave.

  Returns:
    The reduction.
  """
  check_left(left, tokens)
  k_order, k_other = jax.random.split(key)
  order = jnp.argsort(jax.random.uniform(k_order, (batch, tokens)), 1)
  source, other = order[:, left:], order[:, :left]
  found = jax.random.randint(k_other, source.shape, 0, left)
  return reduction_into(_into(source, jnp.take_along_axis(other, found, 1), tokens), left)


def _cosines(keys):
  unit = l2_normalize(at_least_float32(keys))
  return jnp.einsum("bsd,btd->bst", unit, unit)


def _energy(cosine, margin, alpha):
  return jnp.mean(jax.nn.elu(cosine - margin, alpha), -1)


def _match(scores, source, other, left, tokens):
  """Which token each goes into, if the sources go that are most similar to any other token."""
  first = jnp.argsort(-jnp.max(scores, -1), 1)[:, : tokens - left]
  found = jnp.take_along_axis(jnp.argmax(scores, -1), first, 1)
  pick = jnp.take_along_axis
  return _into(pick(source, first, 1), pick(other, found, 1), tokens)


def _into(source, other, tokens):
  return jax.vmap(lambda s, o: jnp.arange(tokens).at[s].set(o))(source, other)
