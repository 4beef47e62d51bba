"""What every loss is held to, by the tests of test_losses.py.

A case says how to draw inputs, and defines its loss a second time, in NumPy and float64, written
from the publication and not from our code. The files in definitions/ list the cases of a family.
From a case follow:

  definition   value and gradient, in float32 to 1e-5 and in float64 to 1e-10, at a batch of 1, at a
               prime number and at an ordinary one; the gradient by differences of the definition
  layouts      one value and one gradient under jit, vmap, pmap, shard_map over 1, 2, 4 and 8
               devices and on a mesh that the compiler divides
  laws         rows follow a permutation, `where` and labels of -1 equal dropping the rows, nothing
               flows into stopped arguments, bfloat16 is rounded once, everything stays finite at
               zero vectors, duplicate rows, one class, no positive and with nothing taking part
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import P, lax

from repjax.train.mesh import batch_sharding, make_mesh, replicated

# Tests run their programs once, on a handful of numbers: compiling is all they cost, and emitting
# fusions by MLIR is half of it. The other files here have losses compiled as users have them.
FAST_COMPILE = {
  "xla_backend_optimization_level": 0,
  "xla_llvm_disable_expensive_passes": True,
}
if jax.__version_info__ < (0, 11):  # later ones do not know it
  FAST_COMPILE["xla_cpu_use_fusion_emitters"] = False
BATCH, DIM = 16, 5  # of layouts and laws
MASK = np.random.default_rng(4).permutation(BATCH) < 11  # rows that take part, in some of these
SHAPES = ((1, 3), (7, 5), (12, 4))  # of definitions
Arrays = dict[str, np.ndarray]


class Case(NamedTuple):
  """One loss, with its definition and its inputs.

  Attributes:
    name: of the test.
    loss: the loss, called by keywords: ``loss(**batch, **shared, **options)``.
    batch: ``(rng, batch, dim) -> arrays`` whose leading axis is the batch and is split over
      devices.
    definition: the same in NumPy: called as the loss is, with float64 arrays and the options that
      it names. If it takes ``fixed``, it gets the same arrays once more there, held fixed while the
      others move: what it computes from those carries no gradient. None where a stored answer of
      another library is the definition and a test of its own compares with it.
    shared: ``(rng, dim) -> arrays`` that all devices have whole, such as prototypes.
    options: keyword arguments that are no arrays.
    stopped: names of arrays that get no gradient.
    square: names of batch arrays whose second axis is the whole batch too.
    permutes: whether the loss forgets the order of rows.
    batch_of_one: whether it is defined for a batch of one.
    atol: tolerance of gradients in float64, where differences of the definition are that rough.
  """

  name: str
  loss: Callable
  batch: Callable[[np.random.Generator, int, int], Arrays]
  definition: Callable | None
  shared: Callable[[np.random.Generator, int], Arrays] = lambda rng, dim: {}
  options: Mapping[str, Any] = {}
  stopped: tuple[str, ...] = ()
  square: tuple[str, ...] = ()
  permutes: bool = True
  batch_of_one: bool = True
  atol: float = 1e-9


def normal(*names: str) -> Callable[[np.random.Generator, int, int], Arrays]:
  """Draws the named arrays ``[batch, dim]`` from a normal distribution."""
  return lambda rng, batch, dim: {name: rng.normal(size=(batch, dim)) for name in names}


def labelled(*names: str, classes: int = 3) -> Callable[[np.random.Generator, int, int], Arrays]:
  """Draws the named arrays ``[batch, dim]`` and ``labels`` of a few classes."""

  def draw(rng, batch, dim):
    return normal(*names)(rng, batch, dim) | {"labels": rng.integers(classes, size=batch)}

  return draw


def takes(case: Case, name: str) -> bool:
  return name in inspect.signature(case.loss).parameters


def may_leave_out(case: Case) -> bool:
  """Whether rows can be left out, by ``where`` or by a label of -1."""
  return takes(case, "where") or draw(case)[0].get("labels", np.zeros((1, 1))).ndim == 1


def draw(case: Case, batch: int = BATCH, dim: int = DIM, dtype=np.float32, seed: int = 0):
  """The arrays of a case, split over devices and whole."""
  rng = np.random.default_rng([seed, batch, dim])
  cast = lambda x: x.astype(np.int32 if np.issubdtype(x.dtype, np.integer) else dtype)
  # Masks stay masks.
  cast_all = lambda tree: {
    k: v if v.dtype == bool else cast(np.asarray(v)) for k, v in tree.items()
  }
  return cast_all(case.batch(rng, batch, dim)), cast_all(case.shared(rng, dim))


def weights(batch: int, dtype=np.float32) -> np.ndarray:
  """Weights of examples, so that no two count alike."""
  return np.random.default_rng(1).uniform(0.5, 2, batch).astype(dtype)


def is_float(x) -> bool:
  return jnp.issubdtype(jnp.result_type(x), jnp.floating)


def split(arrays: Arrays) -> tuple[Arrays, Arrays]:
  """Arrays that have a gradient, and the others."""
  floats = {k: v for k, v in arrays.items() if is_float(v)}
  return floats, {k: v for k, v in arrays.items() if k not in floats}


def objective(case: Case, batch: Arrays, shared: Arrays, weight, **options):
  """A number that depends on every entry of the loss, and the loss itself.

  On a shard, its part of that number.
  """
  if not takes(case, "axis_name"):
    options = {k: v for k, v in options.items() if k != "axis_name"}
  value = case.loss(**batch, **shared, **case.options, **options)
  if value.ndim:
    return jnp.sum(weight * value), value
  return value / devices_of(options.get("axis_name")), value


def devices_of(axis_name) -> int:
  return 1 if axis_name is None else lax.axis_size(axis_name)


def with_gradient(case: Case, **options):
  """``(floats, rest, weight) -> (value, gradients)``; each argument is ``(batch, shared)``."""

  def of(floats, rest, weight):
    batch, shared = ({**f, **r} for f, r in zip(floats, rest, strict=True))
    return objective(case, batch, shared, weight, **options)

  def run(floats, rest, weight):
    (_, value), grads = jax.value_and_grad(of, has_aux=True)(floats, rest, weight)
    return value, grads

  return run


class Held:
  """A case as a key of a cache."""

  def __init__(self, case: Case):
    self.case = case

  def __hash__(self):
    return hash(self.case.name)

  def __eq__(self, other):
    return self.case.name == other.case.name


@functools.cache
def program(held: Held):
  """A case's value and gradients as a program; compiled once for every shape."""
  return jax.jit(with_gradient(held.case), compiler_options=FAST_COMPILE)


def evaluate(case: Case, batch: Arrays, shared: Arrays, weight=None):
  """Value and gradients on one device, under jit."""
  floats, rest = zip(split(batch), split(shared), strict=True)
  if weight is None:
    weight = weights(len(next(iter(batch.values()))), next(iter(floats[0].values())).dtype)
  return jax.tree.map(np.asarray, program(Held(case))(floats, rest, weight))


@functools.cache
def of_whole_batch(held: Held, masked: bool):
  batch, shared = draw(held.case)
  return evaluate(held.case, batch | ({"where": MASK} if masked else {}), shared)


def expected(case: Case, masked: bool = False):
  """Value and gradients of the whole batch on one device."""
  return of_whole_batch(Held(case), masked and takes(case, "where"))


def assert_close(ours, wanted, rtol=2e-5, atol=2e-6):
  """Holds arrays to be equal, relative to the largest entry where that is above 1."""

  def close(x, y):
    scale = max(1.0, np.abs(y).max(initial=0))
    np.testing.assert_allclose(x, y, rtol, atol * scale)

  jax.tree.map(close, ours, wanted)


# Definition


def defined(case: Case, batch: Arrays, shared: Arrays, weight, fixed=None):
  """The definition's value, and the weighted sum of it that gradients are of."""
  names = inspect.signature(case.definition).parameters
  options = {k: v for k, v in case.options.items() if k in names}
  if "fixed" in names:
    options["fixed"] = {**batch, **shared} if fixed is None else fixed
  value = np.asarray(case.definition(**batch, **shared, **options), np.float64)
  return value, float(np.sum(weight * value) if value.ndim else value)


def derivative(case: Case, batch: Arrays, shared: Arrays, weight, name: str, direction, step=1e-3):
  """Along a direction, by central differences of eighth order."""
  fixed = {**batch, **shared}
  total = 0.0
  for k, c in zip((1, 2, 3, 4), (4 / 5, -1 / 5, 4 / 105, -1 / 280), strict=True):
    for sign in (1, -1):
      moved = fixed[name] + sign * k * step * direction
      parts = ({n: moved if n == name else x for n, x in part.items()} for part in (batch, shared))
      total += sign * c * defined(case, *parts, weight, fixed)[1]
  return total / step


def check_definition(case: Case, shape: tuple[int, int]) -> None:
  batch_size, dim = shape
  if batch_size == 1 and not case.batch_of_one:
    pytest.skip("not defined for a batch of one")
  batch, shared = draw(case, batch_size, dim, np.float64)
  weight = weights(batch_size, np.float64)
  wanted, _ = defined(case, batch, shared, weight)
  with jax.enable_x64(True):
    value, grads = evaluate(case, batch, shared, weight)
    assert value.dtype == np.float64, f"float64 in gave {value.dtype} out"
  np.testing.assert_allclose(value, wanted, rtol=1e-10, atol=1e-11)
  rng = np.random.default_rng(2)
  for part, grad in zip((batch, shared), grads, strict=True):
    for name, g in grad.items():
      if name in case.stopped:
        continue
      for _ in range(4):
        direction = rng.normal(size=g.shape) / np.sqrt(g.size)
        slope = derivative(case, batch, shared, weight, name, direction)
        np.testing.assert_allclose(
          np.sum(g * direction), slope, rtol=1e-8, atol=case.atol, err_msg=f"gradient of {name}"
        )
      assert g.shape == part[name].shape
  if batch_size == 7:
    low = [
      {k: v.astype(np.float32) if is_float(v) else v for k, v in p.items()} for p in (batch, shared)
    ]
    value_32, grads_32 = evaluate(case, *low, weight.astype(np.float32))
    assert value_32.dtype == np.float32
    np.testing.assert_allclose(value_32, wanted, rtol=1e-5, atol=1e-5)
    # Relative to the largest entry: single entries may be differences of large numbers.
    for low_part, high_part in zip(grads_32, grads, strict=True):
      for name, g in high_part.items():
        scale = max(1.0, np.abs(g).max())
        np.testing.assert_allclose(low_part[name], g, rtol=1e-5, atol=1e-5 * scale)


# Layouts


def _parts(case: Case, masked: bool = False):
  batch, shared = draw(case)
  if masked and takes(case, "where"):
    batch["where"] = MASK
  floats, rest = zip(split(batch), split(shared), strict=True)
  return floats, rest, weights(BATCH)


def vmapped(case: Case):
  """Two problems at once, of which the second is ours."""
  other = draw(case, seed=1)
  floats, rest, weight = _parts(case)
  other_floats, other_rest = zip(*map(split, other), strict=True)
  stack = lambda a, b: jax.tree.map(lambda x, y: np.stack([x, y]), a, b)
  run = jax.vmap(with_gradient(case), (0, 0, None))
  run = jax.jit(run, compiler_options=FAST_COMPILE)
  out = run(stack(other_floats, floats), stack(other_rest, rest), weight)
  return jax.tree.map(lambda x: x[1], out)


def pmapped(case: Case):
  """Each device takes the gradient of its own part, as a training step does."""
  deal = lambda x: x.reshape(8, -1, *x.shape[1:])
  copy = lambda x: np.stack([x] * 8)
  floats, rest, weight = _parts(case, masked=True)
  lay = lambda parts: (jax.tree.map(deal, parts[0]), jax.tree.map(copy, parts[1]))
  value, grads = jax.pmap(with_gradient(case, axis_name="i"), axis_name="i")(
    lay(floats), lay(rest), deal(weight)
  )
  value = value.reshape(-1) if value.ndim > 1 else value[0]
  join = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), grads[0])
  return value, (join, jax.tree.map(lambda x: x.sum(0), grads[1]))


def shard_mapped(case: Case, devices: int, masked: bool):
  floats, rest, weight = _parts(case, masked)
  per_example = expected(case)[0].ndim > 0

  def shard(floats, rest, weight):
    batch, shared = ({**f, **r} for f, r in zip(floats, rest, strict=True))
    part, value = objective(case, batch, shared, weight, axis_name="data")
    value = value if per_example else lax.pmean(value, "data")
    return lax.psum(part, "data"), value

  mesh = make_mesh(f"data:{devices}", devices=jax.devices()[:devices])
  spec = (P("data"), P())
  whole = jax.shard_map(
    shard,
    mesh=mesh,
    in_specs=(spec, spec, P("data")),
    out_specs=(P(), P("data") if per_example else P()),
  )
  run = jax.jit(jax.value_and_grad(whole, has_aux=True), compiler_options=FAST_COMPILE)
  (_, value), grads = run(floats, rest, weight)
  return value, grads


def partitioned(case: Case):
  """The compiler divides the whole batch over a mesh of two axes."""
  mesh = make_mesh("data:4,model:2")
  floats, rest, weight = _parts(case)
  put = lambda parts: (
    jax.device_put(parts[0], batch_sharding(mesh)),
    jax.device_put(parts[1], replicated(mesh)),
  )
  run = jax.jit(with_gradient(case), compiler_options=FAST_COMPILE)
  return run(put(floats), put(rest), jax.device_put(weight, batch_sharding(mesh)))


# Rows are left out in some, so that both ways are seen on devices with more and with fewer rows.
MASKED = ("pmap", "shard_map_2", "shard_map_8")
LAYOUTS = {
  "vmap": vmapped,
  "pmap": pmapped,
  **{
    name: functools.partial(shard_mapped, devices=n, masked=name in MASKED)
    for n in (1, 2, 4, 8)
    for name in [f"shard_map_{n}"]
  },
  "mesh": partitioned,
}


def layouts(case: Case) -> tuple[str, ...]:
  """Those in which a loss could go wrong: one that couples no batch has no use for devices."""
  return tuple(LAYOUTS) if takes(case, "axis_name") else ("vmap", "mesh")


def check_layout(case: Case, layout: str) -> None:
  assert_close(LAYOUTS[layout](case), expected(case, masked=layout in MASKED))


def in_tiles(case: Case) -> Case:
  """The same loss, worked out in tiles that do not divide the batch."""
  return case._replace(name=f"{case.name}-tiled", options={**case.options, "tile_size": 3})


# Laws


def check_permutation(case: Case) -> None:
  batch, shared = draw(case)
  order = np.random.default_rng(3).permutation(BATCH)
  moved = {k: v[order] for k, v in batch.items()}
  moved |= {k: moved[k][:, order] for k in case.square}
  value, (grads, more) = evaluate(case, moved, shared, weights(BATCH)[order])
  wanted, (wanted_grads, wanted_more) = expected(case)
  wanted_grads = {k: v[order] for k, v in wanted_grads.items()}
  wanted_grads |= {k: wanted_grads[k][:, order] for k in case.square if k in wanted_grads}
  wanted = wanted[order] if wanted.ndim else wanted
  assert_close((value, (grads, more)), (wanted, (wanted_grads, wanted_more)), 1e-4, 1e-5)


def check_dropping(case: Case) -> None:
  batch, shared = draw(case)
  keep = MASK
  fewer = {k: v[keep] for k, v in batch.items()}
  fewer |= {k: fewer[k][:, keep] for k in case.square}
  wanted, (wanted_grads, wanted_more) = evaluate(case, fewer, shared, weights(BATCH)[keep])
  ways = []
  if takes(case, "where"):
    ways.append({**batch, "where": keep})
  if "labels" in batch and batch["labels"].ndim == 1:
    ways.append({**batch, "labels": np.where(keep, batch["labels"], -1)})
  assert ways
  for way in ways:
    value, (grads, more) = evaluate(case, way, shared, weights(BATCH))
    for name, g in grads.items():
      dropped, g = g[~keep], g[keep]
      g = g[:, keep] if name in case.square else g
      assert_close(g, wanted_grads[name])
      assert not dropped.any(), f"rows that were left out have a gradient of {name}"
    assert_close(more, wanted_more)
    if value.ndim:
      assert not value[~keep].any()
    assert_close(value[keep] if value.ndim else value, wanted)


def check_finite(case: Case) -> None:
  batch, shared = draw(case)
  floats, _ = split(batch)
  floats = {k: v for k, v in floats.items() if k not in case.square}
  first = next(iter(floats.values()))
  inputs = {
    "zero vectors": batch
    | {k: np.where(np.arange(BATCH) < 3, 0, v.T).T for k, v in floats.items()},
    "only zeros": batch | {k: np.zeros_like(v) for k, v in floats.items()},
    "duplicate rows": batch | {k: np.repeat(v[::4], 4, 0) for k, v in floats.items()},
    "one point": batch | {k: np.repeat(v[:1], BATCH, 0) for k, v in floats.items()},
    "equal arrays": batch | {k: first for k, v in floats.items() if v.shape == first.shape},
    "large": batch | {k: 1e4 * v for k, v in floats.items()},
  }
  if "labels" in batch and batch["labels"].ndim == 1:
    inputs["one class"] = batch | {"labels": np.zeros_like(batch["labels"])}
    inputs["no positive"] = batch | {"labels": np.arange(BATCH, dtype=np.int32) % _classes(case)}
    inputs["no label"] = batch | {"labels": np.full_like(batch["labels"], -1)}
  if takes(case, "where"):
    inputs["nothing takes part"] = batch | {"where": np.zeros(BATCH, bool)}
    inputs["one takes part"] = batch | {"where": np.arange(BATCH) == 5}
  for name, arrays in inputs.items():
    value, grads = evaluate(case, arrays, shared)
    for part in jax.tree.leaves((value, grads)):
      assert np.isfinite(part).all(), f"not finite with {name}"
  if "where" in inputs.get("nothing takes part", {}):
    value, _ = evaluate(case, inputs["nothing takes part"], shared)
    assert not value.any(), f"nothing takes part, the loss is {value}"


def _classes(case: Case) -> int:
  """How many classes labels may name: of those that index prototypes, not more than there are."""
  return case.options.get("classes", BATCH) if not draw(case)[1] else 3


def check_bfloat16(case: Case) -> None:
  batch, shared = draw(case)
  low = [
    {k: jnp.asarray(v, jnp.bfloat16) if is_float(v) else v for k, v in part.items()}
    for part in (batch, shared)
  ]
  rounded = [
    {k: np.asarray(v, np.float32) if is_float(v) else v for k, v in p.items()} for p in low
  ]
  value, grads = evaluate(case, *low, weights(BATCH))
  wanted, wanted_grads = evaluate(case, *rounded, weights(BATCH))
  assert value.dtype == jnp.float32
  np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)
  for grad, exact in zip(jax.tree.leaves(grads), jax.tree.leaves(wanted_grads), strict=True):
    assert grad.dtype == jnp.bfloat16
    scale = np.abs(exact).max()
    np.testing.assert_allclose(grad.astype(np.float32), exact, rtol=2e-2, atol=1e-2 * scale)


def check_stopped(case: Case) -> None:
  _, grads = expected(case)
  for name in case.stopped:
    assert not {**grads[0], **grads[1]}[name].any(), f"a gradient flows into {name}"
