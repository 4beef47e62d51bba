"""Learners without a teacher: each step goes down the gradient of the paper's own loss."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest

from repjax.encoders import MLP
from repjax.learners import Crops, barlow_twins, lejepa, nnclr, simsiam, sup_con, vicreg

ENCODER, HEAD, PREDICTOR = layouts.Tiny(), MLP((8, 4)), MLP((4, 4))
LEARNERS = {
  "simsiam": lambda axis: simsiam(ENCODER, HEAD, PREDICTOR, layouts.noise, axis_name=axis),
  "barlow_twins": lambda axis: barlow_twins(
    ENCODER, HEAD, layouts.noise, redundancy_weight=0.1, axis_name=axis
  ),
  "vicreg": lambda axis: vicreg(
    ENCODER,
    HEAD,
    layouts.noise,
    invariance_weight=5.0,
    variance_weight=3.0,
    covariance_weight=2.0,
    axis_name=axis,
  ),
  "sup_con": lambda axis: sup_con(ENCODER, HEAD, layouts.noise, temperature=0.3, axis_name=axis),
  "nnclr": lambda axis: nnclr(
    ENCODER, HEAD, PREDICTOR, layouts.noise, queue_size=24, temperature=0.3, axis_name=axis
  ),
  "lejepa": lambda axis: lejepa(ENCODER, HEAD, CROPS, sigreg_weight=0.2, slices=16, axis_name=axis),
}
LABEL = layouts.BATCH["label"]


def half(key, image):
  return layouts.noise(key, image[:4, :4])


CROPS = [Crops(layouts.noise, 2), Crops(half, 2)]


@layouts.everywhere
@pytest.mark.parametrize("name", list(LEARNERS))
def test_eight_devices_make_the_steps_of_one(name, layout):
  layouts.check_layout(LEARNERS[name], layout)


def projected(params, *crops):
  """Projections of the views that the first step saw."""
  views = layouts.drawn(*(crops or [Crops(layouts.noise, 2)]))
  pooled = [ENCODER.apply({"params": params["encoder"]}, view).pooled for view in views]
  return [HEAD.apply({"params": params["projector"]}, x) for x in pooled]


def predicted(params):
  return [PREDICTOR.apply({"params": params["predictor"]}, z) for z in projected(params)]


def unit(x):
  return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def test_simsiam_predicts_projections_that_no_gradient_reaches():
  def restated(params, start):
    (p_1, p_2), (z_1, z_2) = predicted(params), projected(start.params)
    cosine = lambda p, z: jnp.mean(jnp.sum(unit(p) * unit(z), 1))
    return -(cosine(p_1, z_2) + cosine(p_2, z_1)) / 2

  layouts.check_step(LEARNERS["simsiam"], restated)


def test_barlow_twins_makes_the_correlation_of_two_views_the_identity():
  def restated(params, start):
    standard = lambda z: (z - z.mean(0, keepdims=True)) / jnp.sqrt(z.var(0, keepdims=True) + 1e-5)
    z_1, z_2 = map(standard, projected(params))
    square = (z_1.T @ z_2 / 16 - jnp.eye(4)) ** 2
    return jnp.trace(square) + 0.1 * (jnp.sum(square) - jnp.trace(square))

  layouts.check_step(LEARNERS["barlow_twins"], restated)


def test_vicreg_weighs_invariance_variance_and_covariance():
  def restated(params, start):
    z_1, z_2 = projected(params)
    loss = 5 * jnp.mean((z_1 - z_2) ** 2)
    for z in (z_1, z_2):
      covariance = jnp.cov(z.T)
      own = jnp.diag(covariance)
      loss += 3 / 2 * jnp.mean(jnp.maximum(0, 1 - jnp.sqrt(own + 1e-4)))
      loss += 2 * (jnp.sum(covariance**2) - jnp.sum(own**2)) / 4
    return loss

  layouts.check_step(LEARNERS["vicreg"], restated)


def test_sup_con_pulls_views_of_a_label_together_and_knows_no_others():
  def restated(params, start):
    z = jnp.concatenate([unit(z)[LABEL >= 0] for z in projected(params)])
    label = np.tile(LABEL[LABEL >= 0], 2)
    apart = ~np.eye(len(label), dtype=bool)
    logits = jnp.where(apart, z @ z.T / 0.3, -jnp.inf)
    log_p = jnp.where(apart, logits, 0) - jax.nn.logsumexp(logits, 1, keepdims=True)
    positive = apart & (label[:, None] == label[None])
    return -jnp.mean(jnp.sum(jnp.where(positive, log_p, 0), 1) / positive.sum(1))

  layouts.check_step(LEARNERS["sup_con"], restated)


def test_nnclr_asks_with_the_nearest_rows_of_the_queue_as_it_was_before():
  def restated(params, start):
    rows = jnp.asarray(start.extra["memory"].rows)
    loss = 0
    for z, p in zip(projected(start.params), predicted(params)[::-1], strict=True):
      neighbour = rows[jnp.argmax(unit(z) @ rows.T, 1)]
      log_p = jax.nn.log_softmax(neighbour @ unit(p).T / 0.3, 1)
      loss -= jnp.mean(jnp.diag(log_p)) / 2
    return loss

  layouts.check_step(LEARNERS["nnclr"], restated)


def test_nnclr_remembers_the_projections_of_the_first_view():
  start, states, _ = layouts.steps(LEARNERS["nnclr"])
  rows, first = states[0].extra["memory"].rows, start.extra["memory"].rows
  np.testing.assert_allclose(rows[:16], unit(projected(start.params)[0]), rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(rows[16:], first[16:])


def test_lejepa_draws_all_crops_to_the_mean_of_the_global_ones_and_to_a_normal():
  def restated(params, start):
    z = jnp.stack(projected(params, *CROPS), 1)
    error = jnp.mean((z - z[:, :2].mean(1, keepdims=True)) ** 2)
    # What the method draws comes from this key.
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), 0), 0)
    along = z @ unit(jax.random.normal(key, (16, 4))).T
    t = jnp.linspace(0, 3, 17).reshape(-1, 1, 1, 1)
    normal = jnp.exp(-(t[:, 0] ** 2) / 2)
    cosine, sine = (f(t * along[None]).mean(1) for f in (jnp.cos, jnp.sin))
    integrand = ((cosine - normal) ** 2 + sine**2) * normal
    statistic = 16 * 2 * (integrand.sum(0) - (integrand[0] + integrand[-1]) / 2) * 3 / 16
    return 0.8 * error + 0.2 * jnp.mean(statistic)

  layouts.check_step(LEARNERS["lejepa"], restated)
