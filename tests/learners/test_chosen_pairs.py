"""Learners that choose or weigh whom an example is compared with."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest

from repjax import losses
from repjax.encoders import MLP
from repjax.learners import Crops, PairGates, clusters, curl, hydra, llave, mcl

ENCODER, HEAD, GATES = layouts.Tiny(), MLP((8, 4)), PairGates(3, (5, 6, 4))
LABEL = layouts.BATCH["label"]
LEARNERS = {
  "llave": lambda axis: llave(
    ENCODER, HEAD, layouts.noise, temperature=0.3, alpha=2.0, axis_name=axis
  ),
  "hydra": lambda axis: hydra(ENCODER, HEAD, GATES, layouts.noise, temperature=0.3, axis_name=axis),
  "mcl": lambda axis: mcl(ENCODER, HEAD, layouts.noise, temperature=0.3, axis_name=axis),
  "curl": lambda axis: curl(ENCODER, HEAD, layouts.noise, negatives=3, block=2, axis_name=axis),
}


def of_clusters():
  return layouts.BATCH | {"cluster": LABEL}


@layouts.everywhere
@pytest.mark.parametrize("name", list(LEARNERS))
def test_eight_devices_make_the_steps_of_one(name, layout):
  layouts.check_layout(LEARNERS[name], layout, **options(name))


def options(name):
  return {"batch": of_clusters} if name == "mcl" else {}


def projected(params, views=2):
  pooled = [
    ENCODER.apply({"params": params["encoder"]}, view).pooled
    for view in layouts.drawn(Crops(layouts.noise, views))
  ]
  return [HEAD.apply({"params": params["projector"]}, x) for x in pooled]


def unit(x):
  return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def method_key():
  """What the first step draws from beside views."""
  return jax.random.fold_in(jax.random.fold_in(jax.random.key(5), 0), 0)


def test_llave_raises_the_weight_of_similar_negatives_which_passes_no_gradient():
  def restated(params, start):
    z_1, z_2 = map(unit, projected(params))
    fixed_1, fixed_2 = map(unit, projected(start.params))
    similar = z_1 @ z_2.T
    weight = jnp.where(jnp.eye(16, dtype=bool), 1, jnp.exp(2 * fixed_1 @ fixed_2.T))
    terms = weight * jnp.exp(similar / 0.3)
    log_sums = (jnp.log(terms.sum(0)) + jnp.log(terms.sum(1))) / 2
    return jnp.mean(log_sums - jnp.diag(similar) / 0.3)

  layouts.check_step(LEARNERS["llave"], restated)


def test_hydra_picks_a_random_partner_through_the_gate_of_both_classes():
  partner = np.asarray(jax.random.permutation(method_key(), 16))
  kept = np.flatnonzero((LABEL >= 0) & (LABEL[partner] >= 0))
  assert len(set(LABEL[kept] == LABEL[partner[kept]])) == 2  # like and unlike pairs

  def restated(params, start):
    z_1, z_2 = projected(params)
    query, key = z_1[kept], z_2[partner[kept]]
    net = params["gates"]
    table = net["Embed_0"]["embedding"]
    mean = (table[LABEL[kept]] + table[LABEL[partner[kept]]]) / 2
    gate = jax.nn.sigmoid(MLP((6, 4)).apply({"params": net["MLP_0"]}, jnp.maximum(mean, 0)))
    seen = unit(gate[:, None] * key[None])
    logits = jnp.einsum("id,ijd->ij", unit(gate * query), seen) / 0.3
    first, second = LABEL[kept][:, None], LABEL[partner[kept]]
    neither = (second[None] != first) & (second[None] != second[:, None])
    logits = jnp.where(neither | np.eye(len(kept), dtype=bool), logits, -jnp.inf)
    return -jnp.mean(jnp.diag(jax.nn.log_softmax(logits, 1)))

  layouts.check_step(LEARNERS["hydra"], restated)


def test_gates_do_not_tell_which_class_comes_first():
  first, second = jnp.array([0, 1, 2]), jnp.array([2, 2, 1])
  params = GATES.init(jax.random.key(0), first, second)
  one, other = GATES.apply(params, first, second), GATES.apply(params, second, first)
  np.testing.assert_allclose(one, other, rtol=1e-6)
  assert not np.allclose(one[0], one[1])


def test_mcl_has_its_negatives_from_the_cluster_alone():
  def restated(params, start):
    z_1, z_2 = map(unit, projected(params))
    logits = z_1 @ z_2.T / 0.3
    same = (LABEL[:, None] == LABEL[None]) & (LABEL >= 0)[:, None]
    logits = jnp.where(same | np.eye(16, dtype=bool), logits, -jnp.inf)
    log_sums = (jax.nn.logsumexp(logits, 0) + jax.nn.logsumexp(logits, 1)) / 2
    return jnp.mean(log_sums - jnp.diag(logits))

  start, _, metrics = layouts.steps(LEARNERS["mcl"], batch=of_clusters)
  np.testing.assert_allclose(metrics[0]["loss"], restated(start.params, start), rtol=1e-4)


def test_clusters_tell_all_combinations_of_the_stages_apart():
  angle = np.repeat([0.1, 2.0, 4.0], 8)
  first = np.stack([np.cos(angle), np.sin(angle)], 1) * np.linspace(1, 9, 24)[:, None]
  second = np.roll(first, 4, 0)
  combined = clusters([first, second], count=3)
  pairs = list(zip(angle, np.roll(angle, 4), strict=True))
  assert len(set(combined)) == len(set(pairs)) == len(set(zip(combined, pairs, strict=True))) == 6
  assert clusters([first], count=3).max() == 2 and combined.max() < 9


def test_curl_compares_blocks_of_draws_with_those_of_other_examples():
  steps = 1 + np.asarray(jax.random.permutation(method_key(), 15))[:3]

  def restated(params, start):
    anchor, *draws = projected(params, views=3)
    block = sum(draws) / 2
    margins = [jnp.sum(anchor * (block - jnp.roll(block, -int(s), 0)), 1) for s in steps]
    return jnp.mean(jnp.log2(1 + sum(jnp.exp(-v) for v in margins)))

  layouts.check_step(LEARNERS["curl"], restated)


def test_curl_takes_the_hinge_loss():
  objective = curl(ENCODER, None, lambda key, image: image, loss=losses.curl_hinge, negatives=15)
  params, extra = objective.init(jax.random.key(0), layouts.BATCH)
  value, _ = jax.jit(objective.loss)(params, extra, layouts.BATCH, jax.random.key(1))
  z = ENCODER.apply({"params": params["encoder"]}, layouts.BATCH["image"] / 255).pooled
  margins = (z * z).sum(1, keepdims=True) - z @ z.T
  others = margins[~np.eye(16, dtype=bool)].reshape(16, 15)
  np.testing.assert_allclose(value, np.maximum(0, 1 - others.min(1)).mean(), rtol=1e-5)
