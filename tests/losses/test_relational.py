"""Relations of a batch: which transformations of a teacher they do not see, and closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from libraries import answers, check_answer

from repjax.losses import contrastive, relational

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(size=(2, 9, 6)).astype(np.float32)
GATES = np.linspace(0.1, 0.9, 6).astype(np.float32)
kernel_match = functools.partial(relational.kernel_match, weight=GATES)


def both_ways(student_image, student_text, teacher_image, teacher_text):
  """The cross entropy of which the divergence is the part that has a gradient."""
  options = {"temperature": 1 / 10, "teacher_temperature": 1 / 8}
  unit = [x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (teacher_image, teacher_text)]
  teacher = 8 * jnp.matmul(unit[0], unit[1].T, precision="highest")
  entropy = lambda x: -jnp.sum(jax.nn.softmax(x) * jax.nn.log_softmax(x), 1)
  to_text = student_image, student_text, teacher_image, teacher_text
  to_image = student_text, student_image, teacher_text, teacher_image
  divergences = sum(relational.affinity_mimicking(*x, **options) for x in (to_text, to_image))
  return (divergences + jax.lax.stop_gradient(entropy(teacher) + entropy(teacher.T))) / 2


# What other libraries take the mean of, by the name of the answer.
SAME_AS = {"affinity_mimicking_open_clip": both_ways}


def turned(x):
  return x @ np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0].astype(np.float32)


def longer(x):
  return np.concatenate([x, np.zeros_like(x)], -1)


moved = lambda x: x + np.arange(6, dtype=np.float32)
scaled = lambda x: 3 * x
UNSEEN = [
  (loss, change)
  for loss, changes in (
    (relational.relational_distance, (turned, longer, moved, scaled)),
    (relational.relational_angle, (turned, longer, moved, scaled)),
    (relational.similarity_preserving, (turned, longer, scaled)),
    (kernel_match, (turned, longer, moved, scaled)),
  )
  for change in changes
]


@pytest.mark.parametrize("answer", answers("relational"))
def test_loss_equals_another_library(answer):
  loss = SAME_AS[answer.rpartition("_")[0]]
  check_answer("relational", answer, lambda **arrays: jnp.mean(loss(**arrays)))


@pytest.mark.parametrize(("loss", "change"), UNSEEN)
def test_relations_do_not_see_how_the_student_is_placed(loss, change):
  np.testing.assert_allclose(loss(change(STUDENT), TEACHER), loss(STUDENT, TEACHER), rtol=1e-4)


@pytest.mark.parametrize(
  "loss",
  [
    relational.relational_distance,
    relational.relational_angle,
    relational.similarity_preserving,
  ],
)
@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_the_unit_of_features_does_not_matter(loss, scale):
  scale = np.float32(scale)
  np.testing.assert_allclose(loss(scale * STUDENT, TEACHER), loss(STUDENT, TEACHER), rtol=1e-4)


@pytest.mark.parametrize("change", [turned, longer, scaled])
@pytest.mark.parametrize(
  "loss",
  [
    relational.relational_distance,
    relational.relational_angle,
    relational.similarity_preserving,
  ],
)
def test_a_student_with_the_relations_of_its_teacher_costs_nothing(loss, change):
  np.testing.assert_allclose(loss(change(TEACHER), TEACHER), 0, atol=1e-6)


def test_distances_of_an_equilateral_student_are_the_closed_form():
  student = np.eye(3, dtype=np.float32)
  teacher = np.array([[0.0], [1], [2]], np.float32)
  # In units of the mean, the student's are 1 and the teacher's 3/4 and 3/2.
  near, far = 0.25**2 / 2, 0.5**2 / 2
  wanted = np.array([near + far, 2 * near, far + near]) / 3
  np.testing.assert_allclose(
    relational.relational_distance(student, teacher), wanted, rtol=1e-5, atol=1e-7
  )


def test_angles_of_a_square_and_a_line_are_the_closed_form():
  square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
  line = np.array([[0.0], [1], [2], [3]], np.float32)
  # At the first corner of the square: once 90 degrees, twice 45; on the line all are 0.
  wanted = 2 * (1**2 / 2 + 2 * (1 - np.sqrt(0.5)) ** 2 / 2) / 16
  ours = relational.relational_angle(square, line)
  np.testing.assert_allclose(ours[0], wanted, rtol=1e-5)


def test_mimicking_a_teacher_that_is_sure_of_the_partner_is_info_nce():
  query, key = RNG.normal(size=(2, 9, 4)).astype(np.float32)
  sure = np.eye(9, dtype=np.float32)
  options = {"temperature": 0.1, "teacher_temperature": 1e-3}
  ours = relational.affinity_mimicking(query, key, sure, sure, **options)
  np.testing.assert_allclose(ours, contrastive.info_nce(query, key, temperature=0.1), rtol=1e-5)


def test_a_closed_gate_hides_a_feature_of_the_teacher():
  open_to_half = (np.arange(6) < 3).astype(np.float32)
  ours = relational.kernel_match(STUDENT, TEACHER, open_to_half)
  wanted = relational.kernel_match(STUDENT, TEACHER[:, :3], np.ones(3, np.float32))
  np.testing.assert_allclose(ours, wanted, rtol=1e-5)
  np.testing.assert_allclose(
    relational.kernel_match(TEACHER[:, :3], TEACHER, open_to_half), 1e-4, rtol=1e-3
  )


def test_gates_are_a_diagonal_map():
  ours = relational.kernel_match(STUDENT, TEACHER, GATES)
  np.testing.assert_allclose(
    ours, relational.kernel_match(STUDENT, TEACHER, np.diag(GATES)), rtol=1e-5
  )


def test_gates_learn_which_features_the_student_has():
  half = TEACHER[:, :3]

  def loss(logits):
    return relational.kernel_match(half, TEACHER, jax.nn.sigmoid(logits))

  @jax.jit
  def step(logits, _):
    return logits - 2 * jax.grad(loss)(logits), None

  logits, _ = jax.lax.scan(step, jnp.zeros(6), length=200)
  assert loss(logits) < 0.2 * loss(jnp.zeros(6))
  assert logits[:3].min() > logits[3:].max()


@pytest.mark.parametrize("loss", [relational.relational_distance, relational.relational_angle])
def test_duplicates_cost_and_pull_nothing_where_rounding_is_all_there_is(loss):
  student = 100 + np.repeat(STUDENT[:1], 9, 0)
  grad = jax.grad(lambda x: jnp.sum(loss(x, np.repeat(TEACHER[:1], 9, 0))))(student)
  assert not grad.any()


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: relational.relational_distance(STUDENT, TEACHER[1:]), r"\(9, 6\) and \(8, 6\)"),
    (lambda: relational.relational_angle(STUDENT[0], TEACHER[0]), r"\(6,\) and \(6,\)"),
    (lambda: relational.similarity_preserving(STUDENT, TEACHER[1:]), r"\(9, 6\) and \(8, 6\)"),
    (
      lambda: relational.affinity_mimicking(STUDENT, STUDENT, TEACHER[1:], TEACHER[1:]),
      r"\(9, 6\) and \(8, 6\)",
    ),
    (lambda: relational.kernel_match(STUDENT, TEACHER, GATES[1:]), r"\(9, 6\), got \(5,\)"),
  ],
)
def test_what_does_not_fit_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
