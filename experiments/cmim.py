"""cMIM on digits: codes that tell examples apart without augmentation, at any batch size.

  python -m experiments.cmim

trains one autoencoder on scikit-learn's digits by cMIM, MIM, the variational bound and InfoNCE
without augmentation, each at batches of 16, 64 and 256, as many examples for all, and classifies
the codes and the informative embeddings by their nearest neighbours and by a linear probe. The
paper claims that cMIM's codes are better than MIM's, that they depend less on the batch than
InfoNCE's, that informative embeddings are better than codes, and that reconstruction stays close to
MIM's. ``error`` is the mean squared error of test pixels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import claim
from repjax import data, evaluate, losses
from repjax.augment import to_float
from repjax.encoders import DenseDecoder, GaussianEncoder
from repjax.evaluate.embed import Embedded
from repjax.learners import by_gradient, cmim
from repjax.train.launch import Settings, run_app

BATCHES = (16, 64, 256)
EXAMPLES = 50_000
WEIGHTS = {
  "cmim": {"contrast": 10.0},
  "mim": {"contrast": 0.0},
  "vae": {"contrast": 0.0, "posterior": -1.0, "prior": 1.0},
  "info_nce": {
    "likelihood": 0.0,
    "posterior": 0.0,
    "prior": 0.0,
    "contrastive": losses.info_nce,
  },
}
NETS = GaussianEncoder((256, 256), 32), DenseDecoder((256, 256), (8, 8, 1))


def judge(train: Embedded, test: Embedded, seed: int) -> dict[str, float]:
  """Nearest neighbours and a linear probe."""
  values = evaluate.knn(train, test, k=(20,))
  probe = evaluate.linear_probe(train, test, key=jax.random.key(seed), penalties=(1e-4, 1e-3, 1e-2))
  return {"knn": values["knn_20"], "linear": probe["linear"]}


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Each method at each batch size, its codes and its informative embeddings."""
  dataset = data.load("digits")
  train, test = (data.in_memory(part) for part in (dataset.train, dataset.test))
  told = functools.partial(_embedded, train, test)
  numbers = {
    "raw_pixels": judge(*told(lambda image: to_float(image).reshape(len(image), -1)), seed)
  }
  for method, weights in WEIGHTS.items():
    for batch_size in BATCHES:
      steps = settings.steps if settings.given("steps") else EXAMPLES // batch_size
      learner = by_gradient(cmim(*NETS, **weights), optax.adam(1e-3 * (batch_size / 64) ** 0.5))
      state = claim.fit(
        learner, {"image": train.image}, steps=steps, batch_size=batch_size, seed=seed
      )
      for name, values in _probes(weights, state, told, seed).items():
        numbers[f"{method}{name}_{batch_size}"] = values
  untrained = by_gradient(cmim(*NETS), optax.sgd(0.0))
  state = claim.fit(untrained, {"image": train.image}, steps=0, batch_size=16, seed=seed)
  for name, values in _probes({}, state, told, seed).items():
    numbers[f"untrained{name}"] = values
  for method in WEIGHTS:
    for name in ("", "_informative"):
      rows = [numbers[f"{method}{name}_{batch_size}"] for batch_size in BATCHES]
      mean = {metric: float(np.mean([row[metric] for row in rows])) for metric in rows[0]}
      # How much the batch matters: the best of the sizes less the worst.
      spread = {
        f"range_{metric}": float(np.ptp([row[metric] for row in rows])) for metric in rows[0]
      }
      numbers[f"{method}{name}"] = mean | spread
  return numbers


def _probes(weights, state, told, seed):
  """Numbers of codes and of informative embeddings, with the reconstruction's error."""
  out = {}
  for name, embedding in (("", "latent"), ("_informative", "informative")):
    encode = cmim(*NETS, embedding=embedding, **weights).encode
    encode = functools.partial(encode, state.params, state.extra)
    out[name] = judge(*told(lambda image, encode=encode: encode(image).pooled), seed)
    out[name]["error"] = told(lambda image, encode=encode: _error(encode, image))[1].features.mean()
    out[name] = {metric: float(value) for metric, value in out[name].items()}
  return out


def _error(encode, image) -> jax.Array:
  (logits,) = encode(image).layers
  error = jnp.square(jax.nn.sigmoid(logits) - to_float(image))
  return jnp.mean(error, (1, 2, 3))[:, None]


def _embedded(train, test, encode) -> tuple[Embedded, Embedded]:
  encode = jax.jit(encode)
  return tuple(Embedded(np.asarray(encode(part.image)), part.label) for part in (train, test))


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("cmim", study, settings, described="digits, 1297 train, 500 test, 8x8 in [0, 1]")


if __name__ == "__main__":
  run_app(main)
