"""The interaction tensor: which net has which feature, and which example carries it."""

import jax
import jax.numpy as jnp
import numpy as np

from repjax.arrays import at_least_float32


def principal_scores(features: jax.Array, *, components: int) -> jax.Array:
  """The first principal components of each net's features, as unit-variance scores.

  Args:
    features: ``[models, n, dim]``, of the same examples in the same order.
    components: how many, at most ``dim`` and n.

  Returns:
    ``[models, n, components]``, at least float32; mean 0 and variance 1 over examples, signs as the
    decomposition has them; 0 beyond a net's rank.

  Raises:
    ValueError: if shapes do not fit together.
  """
  if jnp.ndim(features) != 3 or not 1 <= components <= min(jnp.shape(features)[1:]):
    raise ValueError(
      f"expected features [models, n, dim] with n and dim of {components} components or more, got "
      f"{jnp.shape(features)}"
    )
  x = at_least_float32(features)
  size = x.shape[1]
  left, values, _ = jnp.linalg.svd(x - jnp.mean(x, 1, keepdims=True), full_matrices=False)
  some = values > max(x.shape[1:]) * jnp.finfo(x.dtype).eps * values[:, :1]
  scores = left * jnp.where(some, jnp.sqrt(jnp.asarray(size, x.dtype)), 0)[:, None]
  return scores[:, :, :components]


def shared_features(scores: np.ndarray, *, threshold: float) -> np.ndarray:
  """Joins components of different nets that are the same feature up to sign.

  Greedy: of the components not joined yet the first (by component, then by net) starts a feature,
  and each other net adds its best free component if their absolute correlation reaches the
  threshold. A net has at most one component in a feature.

  Args:
    scores: ``[models, n, components]``, from `principal_scores`.
    threshold: absolute correlation over examples, in (0, 1].

  Returns:
    ``[models, components]`` int32, the feature of each component, counted from 0; on the host.

  References:
    Jiang et al., `On the Joint Interaction of Models, Data, and Features
    <https://arxiv.org/abs/2306.04793>`_, 2024. The paper's text was not at hand; the greedy order
    is this library's.
  """
  scores = np.asarray(scores, np.float64)
  models, size, components = scores.shape
  flat = scores.transpose(0, 2, 1).reshape(-1, size)
  correlation = np.abs(flat @ flat.T / size).reshape(models, components, models, components)
  found, count = np.full((models, components), -1, np.int32), 0
  for component in range(components):
    for model in range(models):
      if found[model, component] >= 0:
        continue
      found[model, component] = count
      for other in np.delete(np.arange(models), model):
        near = np.where(found[other] < 0, correlation[model, component, other], -1)
        if near.max() >= threshold:
          found[other, near.argmax()] = count
      count += 1
  return found


def interaction_tensor(scores: jax.Array, features: np.ndarray, *, strength: float) -> jax.Array:
  r"""Which net has which feature, and which example carries it there.

  .. math::
    \Omega_{mnt} = 1 \text{ if net } m \text{ has feature } t \text{ and }
    \lvert s_{mn} \rvert \geq \mathrm{strength}

  with s the standardised score of the component that is the feature in that net. Sums over examples
  tell how common a feature is, over nets how reliably it is learned, over features how many an
  example has.

  Args:
    scores: ``[models, n, components]``, from `principal_scores`.
    features: ``[models, components]``, from `shared_features`.
    strength: in standard deviations, > 0.

  Returns:
    ``[models, n, max(features) + 1]`` boolean.

  Raises:
    ValueError: if shapes do not fit together.

  References:
    Jiang et al., `On the Joint Interaction of Models, Data, and Features
    <https://arxiv.org/abs/2306.04793>`_, 2024. The paper's text was not at hand; that scores count
    by absolute value in standard deviations is this library's.
  """
  features = np.asarray(features)
  if jnp.ndim(scores) != 3 or features.shape != (scores.shape[0], scores.shape[2]):
    raise ValueError(
      f"expected scores [models, n, components] and features [models, components], got "
      f"{jnp.shape(scores)} and {features.shape}"
    )
  carries = jnp.abs(scores) >= strength
  place = jax.nn.one_hot(features, int(features.max()) + 1)
  return jnp.einsum("mnk,mkt->mnt", carries.astype(jnp.float32), place) > 0


def pairwise_agreement(predictions: jax.Array) -> jax.Array:
  """Share of examples on which two nets say the same.

  Where nets are calibrated as a whole, its mean over pairs is the accuracy of one (the
  generalisation disagreement equality), which then needs no labels.

  Args:
    predictions: ``[models, n]`` integers.

  Returns:
    ``[models, models]`` float32, 1 on the diagonal.

  Raises:
    ValueError: if ``predictions`` is not rank 2.

  References:
    Jiang et al., `Assessing Generalization of SGD via Disagreement
    <https://arxiv.org/abs/2106.13799>`_, 2022.
    Jiang et al., `On the Joint Interaction of Models, Data, and Features
    <https://arxiv.org/abs/2306.04793>`_, 2024.
  """
  if jnp.ndim(predictions) != 2:
    raise ValueError(f"expected predictions [models, n], got {jnp.shape(predictions)}")
  same = lambda own: jnp.mean((own[None] == predictions).astype(jnp.float32), 1)
  return jax.lax.map(same, jnp.asarray(predictions))
