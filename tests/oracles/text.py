"""Writes tests/oracles/text.npz: what transformers' CLIP and BERT make of weights drawn by a rule.

Run from the repository's root in an environment with torch and transformers, which the tests do not
need:

  python tests/oracles/text.py

Written with torch 2.14.1, transformers 5.24.0, numpy 2.4.6. The weights are not stored:
`weights` of tests/oracles/encoders.py draws them from a tensor's name and shape.
"""

import json
import runpy

import numpy as np

SHAPE = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "max_position_embeddings": 9}
#: Texts of 7, 5 and 4 words; 49 ends them, 1 begins them, 0 is padding.
WORDS = np.array(
  [[1, 7, 3, 30, 12, 22, 49], [1, 40, 5, 6, 49, 0, 0], [1, 11, 2, 49, 0, 0, 0]], np.int32
)
TYPES = np.array([[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 1, 0, 0, 0]], np.int32)
WHERE = WORDS > 0


def main() -> None:
  import torch
  from transformers import BertConfig, BertModel, CLIPTextConfig, CLIPTextModelWithProjection

  weights = runpy.run_path("tests/oracles/encoders.py")["weights"]
  tokens = {"bos_token_id": 1, "eos_token_id": 49, "pad_token_id": 0}
  clip = CLIPTextModelWithProjection(CLIPTextConfig(**SHAPE, **tokens, projection_dim=16))
  bert = BertModel(BertConfig(**SHAPE), add_pooling_layer=False)
  out = {}
  words, types, where = (torch.from_numpy(x.astype(int)) for x in (WORDS, TYPES, WHERE))
  for case, model, inputs in (
    ("clip", clip, {"attention_mask": where}),
    ("clip_unmasked", clip, {}),
    ("bert", bert, {"attention_mask": where, "token_type_ids": types}),
  ):
    state = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
    out[f"{case}/shapes"] = json.dumps({k: tuple(v.shape) for k, v in state.items()})
    drawn = {k: torch.from_numpy(weights(k, tuple(v.shape))) for k, v in state.items()}
    model.load_state_dict(drawn, strict=False)
    with torch.no_grad():
      answer = model.eval()(words, output_hidden_states=True, **inputs)
    out[f"{case}/tokens"] = answer.last_hidden_state.numpy()
    out[f"{case}/layers"] = torch.stack(answer.hidden_states[1:]).numpy()
    if "clip" in case:
      out[f"{case}/pooled"] = answer.text_embeds.numpy()
  np.savez_compressed("tests/oracles/text.npz", **out)


if __name__ == "__main__":
  main()
