"""cMIM: the terms of its loss, its relatives, its two embeddings."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest
from scipy import stats

from repjax import losses
from repjax.encoders import DenseDecoder, GaussianEncoder
from repjax.learners import cmim
from repjax.learners.learner import example_keys

NETS = GaussianEncoder((6,), 3), DenseDecoder((5,), (8, 8, 3))
IMAGE = layouts.BATCH["image"] / 255.0


@layouts.everywhere
def test_eight_devices_make_the_steps_of_one(layout):
  # A hundredth of the loss, whose gradients over two hundred pixels are large.
  weights = {"likelihood": 0.01, "posterior": 0.005, "prior": 0.005}
  layouts.check_layout(lambda axis: cmim(*NETS, axis_name=axis, **weights), layout)


@pytest.fixture(scope="module")
def start():
  params, extra = jax.jit(cmim(*NETS).init)(jax.random.key(0), layouts.BATCH)
  q = NETS[0].apply({"params": params["encoder"]}, jnp.asarray(IMAGE, jnp.float32))
  keys = example_keys(jax.random.key(1), 16)
  noise = np.asarray(jax.vmap(lambda k: jax.random.normal(k, (2, 3)))(keys))
  z_1, z_2 = (q.mean + np.exp(q.log_std) * noise[:, i] for i in range(2))
  return params, extra, jax.tree.map(np.asarray, q), np.asarray(z_1), np.asarray(z_2)


def value_of(start, **options):
  objective = cmim(*NETS, **options)
  return jax.jit(objective.loss)(start[0], start[1], layouts.BATCH, jax.random.key(1))[0]


def test_the_loss_is_its_definition(start):
  params, _, q, z_1, z_2 = start
  logits = np.asarray(NETS[1].apply({"params": params["decoder"]}, z_1).output, np.float64)
  p = 1 / (1 + np.exp(-logits))
  likelihood = (IMAGE * np.log(p) + (1 - IMAGE) * np.log1p(-p)).sum((1, 2, 3))
  posterior = stats.norm(q.mean, np.exp(q.log_std)).logpdf(z_1).sum(1)
  prior = stats.norm.logpdf(z_1).sum(1)
  contrast = losses.averaged_info_nce(jnp.asarray(z_1), jnp.asarray(z_2), temperature=0.2)
  mim = -likelihood - (posterior + prior) / 2
  wanted = np.mean(mim + 3 * np.asarray(contrast))
  np.testing.assert_allclose(value_of(start, temperature=0.2, contrast=3), wanted, rtol=1e-5)
  np.testing.assert_allclose(value_of(start, contrast=0), np.mean(mim), rtol=1e-5)
  vae = np.mean(-likelihood + posterior - prior)
  np.testing.assert_allclose(value_of(start, contrast=0, posterior=-1, prior=1), vae, rtol=1e-5)


def test_features_are_the_mean_code_or_the_decoders_states_given_it(start):
  params, extra, q, *_ = start
  encode = lambda name: jax.jit(cmim(*NETS, embedding=name).encode)(
    params, extra, layouts.BATCH["image"]
  )
  np.testing.assert_allclose(encode("latent").pooled, q.mean, rtol=1e-4, atol=1e-6)
  hidden = NETS[1].apply({"params": params["decoder"]}, jnp.asarray(q.mean)).hidden
  np.testing.assert_allclose(encode("informative").pooled, hidden[:, 0], rtol=1e-4, atol=1e-6)


def test_an_unknown_embedding_is_refused():
  with pytest.raises(ValueError, match="embedding='both' is unknown"):
    cmim(*NETS, embedding="both")
