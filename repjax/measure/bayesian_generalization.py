"""Generalising from examples of a concept: by rules, by similarity, and how to describe it."""

import jax
import jax.numpy as jnp

from repjax.arrays import at_least_float32


def rule_generalization(member: jax.Array, prior: jax.Array, examples: jax.Array) -> jax.Array:
  r"""Probability that items belong to a concept of which a few examples are known.

  .. math::
    P(y \in C \mid X) = \sum_{h \ni y} P(h \mid X), \qquad
    P(h \mid X) \propto P(h) \, [X \subseteq h] \, |h|^{-n}

  The last factor is the size principle: of rules that hold all n examples the smallest is likely
  the one, the more so the more examples there are.

  Args:
    member: ``[rules, items]`` boolean, what each rule holds.
    prior: ``[rules]``, >= 0; need not add up to 1.
    examples: ``[n]`` integers, indices of items; repeated ones count again.

  Returns:
    ``[items]`` float32 between 0 and 1; undefined if no rule holds all examples.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Tenenbaum and Griffiths, `Generalization, similarity, and Bayesian inference
    <https://doi.org/10.1017/S0140525X01000061>`_, 2001, eqs. 1 to 4.
    Shi et al., `On the Complexity of Bayesian Generalization
    <https://sites.google.com/view/bayesian-generalization>`_, 2023.
  """
  shapes = jnp.shape(member), jnp.shape(prior), jnp.shape(examples)
  if len(shapes[0]) != 2 or shapes[1] != shapes[0][:1] or len(shapes[2]) != 1:
    raise ValueError(f"expected member [rules, items], prior [rules], examples [n], got {shapes}")
  member = jnp.asarray(member, bool)
  size = jnp.sum(member, 1, dtype=jnp.float32)
  fits = jnp.all(member[:, examples], 1) & (prior > 0)
  log = jnp.log(jnp.where(fits, prior, 1)) - shapes[2][0] * jnp.log(jnp.maximum(size, 1))
  posterior = jax.nn.softmax(jnp.where(fits, log, -jnp.inf))
  return jnp.matmul(posterior, member.astype(jnp.float32), precision="highest")


def similarity_generalization(
  features: jax.Array, examples: jax.Array, *, sharpness: float | jax.Array = 1.0
) -> jax.Array:
  r"""How similar items are to the examples of a concept.

  .. math:: \frac1n \sum_i \exp(-s \lVert z_y - z_{x_i} \rVert)

  Args:
    features: ``[items, dim]``.
    examples: ``[n]`` integers, indices of items.
    sharpness: s > 0, in units of 1 over the features'.

  Returns:
    ``[items]`` float32 between 0 and 1.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Shepard, `Toward a Universal Law of Generalization for Psychological Science
    <https://doi.org/10.1126/science.3629243>`_, 1987.
    Tenenbaum and Griffiths, `Generalization, similarity, and Bayesian inference
    <https://doi.org/10.1017/S0140525X01000061>`_, 2001.
  """
  if jnp.ndim(features) != 2 or jnp.ndim(examples) != 1:
    raise ValueError(
      f"expected features [items, dim] and examples [n], got {jnp.shape(features)} and "
      f"{jnp.shape(examples)}"
    )
  z = at_least_float32(features)
  distance = jnp.linalg.norm(z[:, None] - z[examples][None], axis=-1)
  return jnp.mean(jnp.exp(-sharpness * distance), 1)


def representativeness(likelihood: jax.Array, prior: jax.Array) -> jax.Array:
  r"""How well an attribute describes a concept: its likelihood there against that elsewhere.

  .. math:: R(a, c) = \log \frac{P(a \mid c)}{\sum_{c' \neq c} P(a \mid c') P(c' \mid \neg c)}

  Args:
    likelihood: ``[concepts, attributes]``, how often a concept's examples have an attribute, > 0:
      smooth counts first.
    prior: ``[concepts]``, > 0; need not add up to 1.

  Returns:
    ``[concepts, attributes]`` float32 in nats; 0 for an attribute that is as frequent everywhere.

  Raises:
    ValueError: if shapes do not fit together or there is one concept.

  References:
    Tenenbaum and Griffiths, `The rational basis of representativeness
    <https://cocosci.princeton.edu/tom/papers/replevels.pdf>`_, 2001, whose sum is over the other
    concepts' priors as they are: a constant for each concept.
    Shi et al., `On the Complexity of Bayesian Generalization
    <https://sites.google.com/view/bayesian-generalization>`_, 2023, whose RoA this is. Neither text
    was at hand.
  """
  shapes = jnp.shape(likelihood), jnp.shape(prior)
  if len(shapes[0]) != 2 or shapes[1] != shapes[0][:1] or shapes[1][0] < 2:
    raise ValueError(f"expected likelihood [concepts, attributes], prior [concepts], got {shapes}")
  p, weight = at_least_float32(likelihood), at_least_float32(prior)
  others = jnp.where(jnp.eye(len(weight), dtype=bool), 0, weight[None])
  others = others / jnp.sum(others, 1, keepdims=True)
  return jnp.log(p) - jnp.log(jnp.matmul(others, p, precision="highest"))
