"""Conversion by rules: each number once, both ways, and every misfit by name."""

import re

import numpy as np
import pytest

from repjax.trees import (
  CONVOLUTION,
  FIRST,
  MATRIX,
  ROW,
  SAME,
  Rule,
  convert,
  dense_rules,
  find_names,
  norm_rules,
  patches,
  revert,
)

RULES = [
  *dense_rules("attn.in_proj_", "params/q", "params/k"),
  *dense_rules("fc", "params/fc", bias=False),
  Rule(None, ("params/fc/bias",)),
  *norm_rules("ln", "params/norm"),
]


def draw(*shape):
  return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


STATE = {
  "attn.in_proj_weight": draw(4, 3),
  "attn.in_proj_bias": draw(4),
  "fc.weight": draw(5, 3),
  "ln.weight": draw(3),
  "ln.bias": draw(3, 1)[:, 0],
}
LIKE = {
  "params": {
    "q": {"kernel": np.zeros((3, 2), np.float32), "bias": np.zeros(2, np.float32)},
    "k": {"kernel": np.zeros((3, 2), np.float32), "bias": np.zeros(2, np.float32)},
    "fc": {"kernel": np.zeros((3, 5), np.float32), "bias": np.ones(5, np.float32)},
    "norm": {"scale": np.zeros(3, np.float32), "bias": np.zeros(3, np.float32)},
  }
}


def test_parts_of_a_fused_layer_come_apart_and_together():
  found = convert(STATE, RULES, LIKE)["params"]
  np.testing.assert_array_equal(found["q"]["kernel"], STATE["attn.in_proj_weight"][:2].T)
  np.testing.assert_array_equal(found["k"]["bias"], STATE["attn.in_proj_bias"][2:])
  np.testing.assert_array_equal(found["fc"]["bias"], 0)
  back = revert({"params": found}, RULES)
  assert back.keys() == STATE.keys()
  assert all(np.array_equal(back[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize(
  "form, shape",
  [
    (SAME, (2, 3)),
    (MATRIX, (2, 3)),
    (CONVOLUTION, (4, 3, 2, 5)),
    (FIRST, (1, 2, 3)),
    (ROW, (3,)),
    (patches((2, 5)), (4, 3, 2, 5)),
  ],
)
def test_every_form_undoes_itself(form, shape):
  x = draw(*shape)
  np.testing.assert_array_equal(form.write(form.read(x)), x)


@pytest.mark.parametrize(
  "change, said",
  [
    ({"fc.weight": None}, "missing fc.weight"),
    ({"head.weight": draw(2)}, "surplus head.weight"),
    ({"fc.weight": draw(7, 3)}, "fc.weight (7, 3) gives (3, 7), not (3, 5)"),
    ({"fc.weight": draw(5, 3, 1, 1)}, "fc.weight (5, 3, 1, 1)"),
    ({"attn.in_proj_bias": draw(5)}, "attn.in_proj_bias (5,) is not 2 of one size"),
    ({"ln.bias": np.array([1, np.inf, 2], np.float16)}, "not finite: tensors ln.bias"),
  ],
)
def test_every_misfit_is_named_in_one_line(change, said):
  state = {k: v for k, v in (STATE | change).items() if v is not None}
  with pytest.raises(ValueError, match=re.escape(said)) as no:
    convert(state, RULES, LIKE, name="some.safetensors")
  assert str(no.value).startswith("some.safetensors ")
  assert "\n" not in str(no.value)


def test_what_is_said_to_be_unused_may_be_there():
  surplus = STATE | {"head.weight": draw(2), "head.bias": draw(2)}
  found = convert(surplus, RULES, LIKE, unused=(r"head\..*",))
  np.testing.assert_array_equal(found["params"]["norm"]["scale"], STATE["ln.weight"])


def test_names_are_found_behind_a_prefix_and_given_back_with_it():
  state = {f"module.{name}": value for name, value in STATE.items()}
  rules = find_names(RULES, state, ("backbone.", "module."))
  assert revert(convert(state, rules, LIKE), rules).keys() == state.keys()
