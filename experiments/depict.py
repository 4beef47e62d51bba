"""DEPICT: do clusters learned with an autoencoder beat k-means of its codes, and DEC?

  python -m experiments.depict --data=npz:data/mnist.npz --image_size=16

One denoising autoencoder, from which DEPICT and DEC both start. About 50 seconds of a core a seed.
Accuracy on test images, three seeds: DEPICT 0.523 ± 0.010, no better than k-means of the codes
(0.544) and of pixels (0.528); an untrained encoder 0.354. DEC falls apart (0.244). Neither was
tuned: one choice of rates and steps.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import claim
from repjax import data, evaluate
from repjax.augment import to_float
from repjax.encoders import Autoencoder
from repjax.learners import Objective, by_gradient, centroid_head, depict, start_from
from repjax.train.launch import Settings, run_app

TRAIN, TEST = 10_000, 3_000
NET = Autoencoder(dim=10, widths=(16, 32), kernel=3)
DATA = "MNIST, 16x16; 10,000 train, 3,000 test images; pixels in [0, 1]"


def study(seed: int, settings: Settings) -> claim.Numbers:
  """Scores the clusters of all methods on the test images."""
  steps = claim.steps_of(settings, 1000)
  dataset = data.load(settings.data, image_size=settings.image_size)
  rows = data.indices(0, 0, min(TRAIN, len(dataset.train)), len(dataset.train))
  image, label = dataset.train.image[rows], dataset.train.label[rows]
  test_image, test_label = dataset.test.image[:TEST], dataset.test.label[:TEST]
  classes, key = len(dataset.classes), jax.random.key(seed)

  def learn(objective, steps):
    learner = by_gradient(objective, optax.adam(1e-3))
    return claim.fit(learner, {"image": image}, steps=steps, batch_size=256, seed=seed)

  score = lambda assigned: evaluate.clustering_scores(assigned, test_label)
  nearest = lambda x, centroids: np.argmin(np.sum(centroids**2, 1)[None] - 2 * x @ centroids.T, 1)

  def codes(state, images):
    encode = lambda params, x: NET.apply({"params": params}, to_float(x)).pooled
    return claim.features(encode, state.params["autoencoder"], images)

  def kmeans(of):
    banks = evaluate.Embedded(of(image), label), evaluate.Embedded(of(test_image), test_label)
    found = evaluate.kmeans(*banks, key=key)
    return {name.removeprefix("kmeans_"): value for name, value in found.items()}

  alone = depict(NET, classes, cluster_weight=0.0)
  untrained, pretrained = learn(alone, 0), learn(alone, steps)
  _, centroids = evaluate.cluster_kmeans(codes(pretrained, image), classes, key=key)
  body = {"autoencoder": pretrained.params["autoencoder"]}
  both = start_from(depict(NET, classes), body | {"head": centroid_head(centroids)})
  clustered = learn(both, steps)
  head = clustered.params["head"]
  rival = learn(start_from(dec(classes), body | {"centroids": centroids}), steps)
  return {
    "depict": score(np.argmax(codes(clustered, test_image) @ head["kernel"] + head["bias"], 1)),
    "dec": score(nearest(codes(rival, test_image), np.asarray(rival.params["centroids"]))),
    "kmeans_codes": kmeans(lambda x: codes(pretrained, x)),
    "untrained": kmeans(lambda x: codes(untrained, x)),
    "raw_pixels": kmeans(lambda x: x.reshape(len(x), -1).astype(np.float32) / 255),
  }


def dec(clusters: int) -> Objective:
  """The rival (Xie et al., 2016, https://arxiv.org/abs/1511.06335, eq. 1 to 3), on the same codes.

  Targets are of each batch, as those of DEPICT are; its own code renews them every 140 steps.
  """

  def init(key, batch):
    params = NET.init(key, to_float(batch["image"]))["params"]
    return {"autoencoder": params, "centroids": jnp.zeros((clusters, NET.dim))}, {}

  def loss(params, extra, batch, key):
    del key
    code = NET.apply({"params": params["autoencoder"]}, to_float(batch["image"])).pooled
    square = jnp.sum((code[:, None] - params["centroids"][None]) ** 2, -1)
    log_q = jax.nn.log_softmax(-jnp.log1p(square), -1)
    q = jax.lax.stop_gradient(jnp.exp(log_q))
    target = q**2 / jnp.sum(q, 0, keepdims=True)
    target /= jnp.sum(target, 1, keepdims=True)
    return jnp.mean(jnp.sum(target * (jnp.log(target) - log_q), -1)), (extra, {})

  def encode(params, extra, image):
    return NET.apply({"params": params["autoencoder"]}, to_float(image))

  return Objective(init, loss, encode)


def main(settings: Settings) -> None:
  """Runs the experiment."""
  claim.run("depict", study, settings, described=DATA)


if __name__ == "__main__":
  run_app(main)
