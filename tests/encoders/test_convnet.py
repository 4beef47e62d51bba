"""The plain convolutional net, against SciPy's correlation, and its pooling."""

import jax
import numpy as np
from scipy import ndimage

from repjax.encoders import ConvNet

IMAGE = np.random.default_rng(0).normal(size=(1, 4, 4, 2)).astype(np.float32)


def test_maps_are_rectified_correlations_and_halve_after_the_first():
  net = ConvNet((2, 3))
  params = jax.jit(net.init)(jax.random.key(0), IMAGE)
  out = jax.jit(net.apply)(params, IMAGE)
  x = np.asarray(IMAGE, np.float64)
  for i, stride in enumerate((1, 2)):
    kernel = np.asarray(params["params"][f"conv_{i}"]["kernel"])
    maps = [
      [
        sum(
          ndimage.correlate(image[..., c], kernel[..., c, k], mode="constant")
          for c in range(image.shape[-1])
        )
        for k in range(kernel.shape[-1])
      ]
      for image in x
    ]
    # "SAME" padding of an even side by a stride of 2 puts nothing before the first pixel.
    x = np.maximum(
      np.moveaxis(np.array(maps), 1, -1)[:, stride - 1 :: stride, stride - 1 :: stride], 0
    )
    np.testing.assert_allclose(out.layers[i], x, atol=1e-4)
  np.testing.assert_allclose(out.pooled, x.mean((1, 2)), atol=1e-4)


def test_dense_layers_see_where_things_are():
  net = ConvNet((2, 3), dense=(4,))
  params = jax.jit(net.init)(jax.random.key(0), IMAGE)
  out = jax.jit(net.apply)(params, IMAGE)
  dense = params["params"]["mlp"]["dense_0"]
  wanted = np.asarray(out.layers[-1]).reshape(1, -1) @ dense["kernel"] + dense["bias"][None]
  np.testing.assert_allclose(out.pooled, wanted, atol=1e-5)
