"""Contrastive losses between images and texts, in NumPy."""

import numpy as np
from harness import Case, labelled, normal

from repjax import losses


def cosines(image, text):
  image, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text))
  return image @ text.T


def clip(image, text, temperature=0.07, label_smoothing=0.0):
  s, n = cosines(image, text) / temperature, len(image)
  target = (1 - label_smoothing) * np.eye(n) + label_smoothing / n
  log_text = s - np.log(np.exp(s).sum(1, keepdims=True))
  log_image = s - np.log(np.exp(s).sum(0, keepdims=True))
  return -(target * log_text).sum(1) / 2 - (target * log_image).sum(0) / 2


def siglip(image, text, temperature=0.1, bias=-10.0):
  logits = cosines(image, text) / temperature + bias
  out = np.zeros(len(image))
  for i in range(len(image)):
    for j in range(len(text)):
      y = 1 if i == j else -1
      out[i] += np.log1p(np.exp(-y * logits[i, j]))
  return out


def unicl(image, text, labels, temperature=0.07):
  p = np.exp(cosines(image, text) / temperature)
  log_text, log_image = np.log(p / p.sum(1, keepdims=True)), np.log(p / p.sum(0))
  out = []
  for i in range(len(image)):
    same = [k for k in range(len(image)) if labels[k] == labels[i]]
    out.append(-np.mean([log_text[i, k] + log_image[k, i] for k in same]) / 2)
  return np.array(out)


def learned(rng, dim):
  return {"temperature": rng.uniform(0.2, 0.4, ()), "bias": rng.normal(size=())}


PAIR = normal("image", "text")
CASES = [
  Case("clip", losses.clip, PAIR, clip),
  Case("clip_smoothed", losses.clip, PAIR, clip, options={"label_smoothing": 0.1}),
  Case("siglip", losses.siglip, PAIR, siglip, options={"bias": -2.0}),
  Case("siglip_learned", losses.siglip, PAIR, siglip, learned),
  Case("unicl", losses.unicl, labelled("image", "text"), unicl),
]
