"""Bits that integers take: by ideal entropy coders, whose models are counts, and by a real one."""

import lzma

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln


def count_symbols(symbols: jax.Array, *, levels: int) -> jax.Array:
  """How often each level occurs in each channel.

  Args:
    symbols: ``[n, channels]`` integers in ``[0, levels)``.
    levels: their number.

  Returns:
    ``[channels, levels]`` float32.
  """
  count = jax.vmap(lambda column: jnp.bincount(column, length=levels), 1)
  return count(symbols.astype(jnp.int32)).astype(jnp.float32)


def entropy_bits(counts: jax.Array) -> jax.Array:
  r"""Bits by the counts themselves: no code by one table a channel takes fewer.

  .. math:: -\sum_s n_s \log_2 \frac{n_s}{n}

  What it takes to tell the table is left out, so that few symbols seem cheaper than they are.

  Args:
    counts: ``[channels, levels]``, of what is coded.

  Returns:
    ``[channels]``, bits in all.

  References:
    Shannon, `A Mathematical Theory of Communication
    <https://doi.org/10.1002/j.1538-7305.1948.tb01338.x>`_, 1948, section 6.
  """
  total = jnp.sum(counts, -1, keepdims=True)
  share = counts / jnp.maximum(total, 1)
  return -jnp.sum(jnp.where(counts > 0, counts * jnp.log2(jnp.where(counts > 0, share, 1)), 0), -1)


def adaptive_bits(counts: jax.Array, *, prior: float = 0.5) -> jax.Array:
  r"""Bits of a coder that counts as it goes, and needs no table.

  Before a symbol it takes each for as likely as :math:`n_s + a`. The order does not matter:

  .. math:: \log_2 \frac{\Gamma(n + a L) \, \Gamma(a)^L}{\Gamma(a L) \prod_s \Gamma(n_s + a)}

  Args:
    counts: ``[channels, levels]``, of what is coded; L levels.
    prior: a > 0; 1/2 is Krichevsky and Trofimov's, 1 Laplace's.

  Returns:
    ``[channels]``, bits in all.

  References:
    Krichevsky and Trofimov, `The Performance of Universal Encoding
    <https://doi.org/10.1109/TIT.1981.1056331>`_, 1981.
  """
  levels, total = counts.shape[-1], jnp.sum(counts, -1)
  nats = gammaln(total + prior * levels) - gammaln(jnp.float32(prior * levels))
  nats = nats - jnp.sum(gammaln(counts + prior) - gammaln(jnp.float32(prior)), -1)
  return nats / np.float32(np.log(2))


def table_bits(counts: jax.Array, table: jax.Array, *, prior: float = 0.5) -> jax.Array:
  r"""Bits by a table that sender and receiver have, such as of train examples.

  .. math:: -\sum_s n_s \log_2 \frac{m_s + a}{m + a L}

  Args:
    counts: ``[channels, levels]``, of what is coded.
    table: :math:`m_s`, same shape, counts of what the table was made of.
    prior: a > 0, so that nothing is impossible.

  Returns:
    ``[channels]``, bits in all.

  References:
    Shannon, `A Mathematical Theory of Communication
    <https://doi.org/10.1002/j.1538-7305.1948.tb01338.x>`_, 1948, section 9.
  """
  share = (table + prior) / jnp.sum(table + prior, -1, keepdims=True)
  return -jnp.sum(counts * jnp.log2(share), -1)


def lzma_bits(symbols: np.ndarray) -> int:
  """Bits of the standard library's LZMA coder, as it comes and without a container.

  Args:
    symbols: any shape, uint8 or uint16, in raster order.

  Returns:
    Eight times the bytes.

  References:
    Pavlov, `LZMA SDK <https://www.7-zip.org/sdk.html>`_, 1999.
  """
  filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
  return 8 * len(lzma.compress(np.asarray(symbols).tobytes(), lzma.FORMAT_RAW, filters=filters))
