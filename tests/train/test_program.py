"""Costs of compiled programs, against the arithmetic of programs written for it."""

import math
import re

import jax
import jax.numpy as jnp
import pytest
from jax import P, ShapeDtypeStruct, lax
from jax.sharding import NamedSharding

from repjax.encoders import ViT
from repjax.train.chips import Chip
from repjax.train.collectives import summarize
from repjax.train.flops import count_flops
from repjax.train.hlo import parse
from repjax.train.mesh import make_mesh
from repjax.train.program import count, read_program

ROWS, WIDTH = 16, 32  # of one device
BYTES = 4 * ROWS * WIDTH
CHIP = Chip("test", 1.0, 1.0, 1.0, link=100.0, links=1, network=0, ring=0, medium="bus")
MESH = make_mesh("data:4,model:2")
BOTH = ("data", "model")


def compiled(f, mesh=MESH):
  """A function of one device's ``[ROWS, WIDTH]`` array on eight devices."""
  rows = P(mesh.axis_names)
  mapped = jax.shard_map(f, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
  x = ShapeDtypeStruct(
    (mesh.size * ROWS, WIDTH), jnp.float32, sharding=NamedSharding(mesh, rows)
  )  # fmt: skip
  return jax.jit(mapped).lower(x).compile()


def around(x, axis):
  size = MESH.shape[axis]
  return lax.ppermute(x, axis, [(i, (i + 1) % size) for i in range(size)])


COLLECTIVES = [
  ("all-reduce", lambda x, axes: lax.psum(x, axes), lambda n: 2 * (n - 1) / n),
  ("all-gather", lambda x, axes: lax.all_gather(x, axes), lambda n: n - 1),
  ("reduce-scatter", lambda x, axes: lax.psum_scatter(x, axes, tiled=True), lambda n: (n - 1) / n),
  ("all-to-all", lambda x, axes: lax.all_to_all(x, axes, 0, 1, tiled=True), lambda n: (n - 1) / n),
]


@pytest.mark.parametrize("axes", [("data",), ("model",), BOTH], ids=str)
@pytest.mark.parametrize(("kind", "f", "sent"), COLLECTIVES, ids=[c[0] for c in COLLECTIVES])
def test_a_collective_moves_what_a_ring_moves(kind, f, sent, axes):
  members = math.prod(MESH.shape[axis] for axis in axes)
  (row,) = read_program(compiled(lambda x: f(x, axes)), MESH, CHIP).collectives
  assert (row.kind, row.axes, row.medium, row.count) == (kind, axes, "bus", 1)
  assert row.nbytes == BYTES * sent(members)
  assert row.seconds == row.nbytes / CHIP.link


@pytest.mark.parametrize("axis", BOTH)
def test_a_permutation_moves_the_operand_once(axis):
  (row,) = read_program(compiled(lambda x: around(x, axis)), MESH, CHIP).collectives
  assert (row.kind, row.axes, row.count) == ("collective-permute", (axis,), 1)
  assert row.nbytes == BYTES


def test_collectives_in_loops_count_as_often_as_they_run():
  def inner(x, _):
    return lax.psum(x, "model") * 0.5, None

  def outer(x, _):
    x, _ = lax.scan(inner, x, None, length=5)
    return around(x, "data"), None

  f = lambda x: lax.scan(outer, x, None, length=3)[0]
  rows = read_program(compiled(f), MESH, CHIP).collectives
  found = {(row.kind, row.axes): (row.count, row.nbytes) for row in rows}
  assert found == {
    ("all-reduce", ("model",)): (15, 15 * BYTES),
    ("collective-permute", ("data",)): (3, 3 * BYTES),
  }


def test_sharded_products_gather_and_reduce_over_the_axes_they_are_sharded_over():
  # Nothing names a collective here: the compiler puts them in.
  place = lambda spec, *size: ShapeDtypeStruct(
    size, jnp.float32, sharding=NamedSharding(MESH, spec)
  )  # fmt: skip
  x, w = place(P("data", None), 64, 128), place(P(None, "model"), 128, 96)
  back = place(P("model", None), 96, 128)
  out = NamedSharding(MESH, P("data", None))
  f = jax.jit(lambda x, w, back: (x @ w) @ back, out_shardings=out)
  program = read_program(f.lower(x, w, back).compile(), MESH, CHIP)
  (row,) = program.collectives
  assert (row.kind, row.axes) == ("all-reduce", ("model",))
  assert row.nbytes == 2 * (1 / 2) * 4 * 16 * 128
  assert program.products == 2 * 2 * 16 * 128 * 48


def on_one(f, *sizes, **options):
  mesh = make_mesh("data:1", devices=jax.devices()[:1])
  arrays = [ShapeDtypeStruct(size, jnp.float32) for size in sizes]
  return read_program(jax.jit(f, **options).lower(*arrays).compile(), mesh, CHIP)


def test_memory_is_that_of_the_arrays():
  add = lambda x, y: (x + 1, jnp.sum(y))
  memory = on_one(add, (256, 256), (64,)).memory
  assert memory.arguments == 4 * (256 * 256 + 64)
  # The second result, and on a CPU the two pointers of a tuple.
  assert memory.outputs - 4 * 256 * 256 in (4, 20)
  assert memory.aliased == 0
  assert on_one(add, (256, 256), (64,), donate_argnums=0).memory.aliased == 4 * 256 * 256


def test_what_a_product_of_products_keeps_is_temporary():
  memory = on_one(lambda x: (x @ x) @ (x @ x).T, (256, 256)).memory
  assert 4 * 256 * 256 <= memory.temporaries < 4 * (2 * 256 * 256) + 4096
  assert memory.peak == memory.arguments + memory.outputs + memory.temporaries


@pytest.mark.parametrize("length", [1, 2, 7])
def test_traffic_and_products_of_a_loop_are_its_length_times_one(length):
  # One product a turn, of a slice of the weights, and its result kept in a slice of another array.
  def f(x, w):
    return lax.scan(lambda x, w: (jnp.tanh(x @ w),) * 2, x, w)

  program = on_one(f, (128, 128), (length, 128, 128))
  assert program.products == length * 2 * 128**3
  turn = 4 * 128 * 128
  # At least the product's two operands and its result; not whole stacks of them in each turn.
  assert 3 * length * turn <= program.traffic <= (14 * length + 4) * turn
  assert not program.unknown_loops


def test_elementwise_work_moves_operands_and_result_once():
  assert on_one(lambda x, y: jnp.exp(x) * y + 1, (512, 512), (512, 512)).traffic == 3 * 4 * 512**2


def test_traffic_without_loops_is_what_the_compiler_counts():
  encoder = ViT(patch_size=4, dim=64, depth=2, heads=4)
  image = jnp.ones((8, 16, 16, 3))
  variables = jax.eval_shape(encoder.init, jax.random.key(0), image)
  grad = jax.grad(lambda v, x: jnp.sum(encoder.apply(v, x).pooled))
  program = jax.jit(grad).lower(variables, image).compile()
  ours = count(parse(program.as_text()), size=1, main=lambda space: True)
  assert math.isclose(ours.traffic, program.cost_analysis()["bytes accessed"], rel_tol=1e-3)
  assert math.isclose(ours.products, count_flops(grad, variables, image), rel_tol=1e-9)


def test_a_loop_of_unknown_length_is_named_and_counts_once():
  f = lambda x: lax.while_loop(lambda x: jnp.sum(x) < 1e9, lambda x: x @ x, x)
  program = on_one(f, (64, 64))
  assert len(program.unknown_loops) == 1 and program.products == 2 * 64**3


@pytest.mark.parametrize(
  "padding",
  ["SAME", "VALID"],
)
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_count_what_meets_a_number(stride, padding):
  def conv(x, w):
    return lax.conv_general_dilated(
      x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

  side, kernel = 8, 3
  pad = 0 if padding == "VALID" else (stride == 1) * 1  # at the start; XLA pads ends first
  outs = -(-side // stride) if padding == "SAME" else (side - kernel) // stride + 1
  taps = sum(
    0 <= out * stride + tap - pad < side for out in range(outs) for tap in range(kernel)
  )  # fmt: skip
  program = on_one(conv, (4, side, side, 6), (kernel, kernel, 6, 8))
  assert program.products == 2 * 4 * 6 * 8 * taps**2


# --- forms that TPU compilers write, cut down from the text of real programs ----------------------

TPU = """HloModule jit_step, is_scheduled=true, num_partitions=8

%fused_start (p.1: bf16[64,32]) -> (bf16[64,32], bf16[256,32]) {
  %p.1 = bf16[64,32]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %all-gather.1 = bf16[256,32]{1,0:T(8,128)(2,1)} all-gather(%p.1), channel_id=28, \
replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}, use_global_device_ids=true, \
backend_config={"async_collective_fusion_config":{"flag_start":"-1","flag_end":"-1"}}
  ROOT %custom-call.1 = (bf16[64,32]{1,0:S(1)}, bf16[256,32]{1,0}, u32[]{:S(2)}) \
custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.1 (q.1: bf16[64,32], q.2: bf16[128,64], q.3: bf16[64,64]) -> \
(bf16[128,64], bf16[256,32]) {
  %q.1 = bf16[64,32]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %all-gather.2 = bf16[256,32]{1,0:T(8,128)(2,1)} all-gather(%q.1), channel_id=28, \
replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}, use_global_device_ids=true, \
backend_config={"async_collective_fusion_config":{"flag_start":"2","flag_end":"8"}}
  %q.2 = bf16[128,64]{1,0:T(8,128)(2,1)} parameter(1)
  %q.3 = bf16[64,64]{1,0:T(8,128)(2,1)} parameter(2)
  %convolution.1 = bf16[128,64]{1,0:T(8,128)(2,1)} convolution(%q.2, %q.3), dim_labels=bf_io->bf
  ROOT %tuple.1 = (bf16[128,64]{1,0}, bf16[256,32]{1,0}) tuple(%convolution.1, %all-gather.2)
}

%all-reduce-scatter.1 (r.1: bf16[128,64]) -> bf16[64,64] {
  %r.1 = bf16[128,64]{1,0:T(8,128)(2,1)} parameter(0)
  %all-reduce.1 = bf16[128,64]{1,0:T(8,128)(2,1)} all-reduce(%r.1), channel_id=20, \
replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([4,2]T(1,0)) {'axis_1'}, \
use_global_device_ids=true, to_apply=%add
  %zero = s32[]{:T(128)} constant(0)
  ROOT %dynamic-slice.1 = bf16[64,64]{1,0:T(8,128)(2,1)} dynamic-slice(%all-reduce.1, %zero, \
%zero), dynamic_slice_sizes={64,64}
}

%sparse_core (s.1: bf16[64,32]) -> bf16[64,32] {
  %s.1 = bf16[64,32]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %all-reduce.2 = bf16[64,32]{1,0:T(8,128)(2,1)} all-reduce(%s.1), channel_id=3, \
replica_groups={{0,1},{2,3},{4,5},{6,7}}, use_global_device_ids=true, to_apply=%add
}

%body (state.1: (s32[], bf16[64,32], bf16[128,64])) -> (s32[], bf16[64,32], bf16[128,64]) {
  %state.1 = (s32[]{:T(128)}, bf16[64,32]{1,0}, bf16[128,64]{1,0}) parameter(0)
  %step = s32[]{:T(128)} constant(2)
  %turn = s32[]{:T(128)} get-tuple-element(%state.1), index=0
  %next = s32[]{:T(128)} add(%turn, %step)
  %shard = bf16[64,32]{1,0} get-tuple-element(%state.1), index=1
  %left = bf16[128,64]{1,0} get-tuple-element(%state.1), index=2
  %weight = bf16[64,64]{1,0:T(8,128)(2,1)} custom-call(), custom_call_target="AllocateBuffer"
  %start = (bf16[64,32]{1,0:S(1)}, bf16[256,32]{1,0}, u32[]{:S(2)}) fusion(%shard), kind=kCustom, \
calls=%fused_start
  %shard.1 = bf16[64,32]{1,0:S(1)} get-tuple-element(%start), index=0
  %both = (bf16[128,64]{1,0}, bf16[256,32]{1,0}) fusion(%shard.1, %left, %weight), kind=kOutput, \
calls=%async_collective_fusion.1
  %product = bf16[128,64]{1,0} get-tuple-element(%both), index=0
  %scattered = bf16[64,64]{1,0} fusion(%product), kind=kCustom, calls=%all-reduce-scatter.1
  %halo = (bf16[64,32]{1,0}, bf16[64,32]{1,0}, u32[]{:S(2)}) collective-permute-start(%shard), \
channel_id=1, source_target_pairs={{0,2},{2,4},{4,6}}
  %halo.1 = bf16[64,32]{1,0} collective-permute-done(%halo)
  ROOT %tuple.2 = (s32[], bf16[64,32]{1,0}, bf16[128,64]{1,0}) tuple(%next, %halo.1, %product)
}

%condition (state.2: (s32[], bf16[64,32], bf16[128,64])) -> pred[] {
  %end = s32[]{:T(128)} constant(9)
  %state.2 = (s32[]{:T(128)}, bf16[64,32]{1,0}, bf16[128,64]{1,0}) parameter(0)
  %turn.1 = s32[]{:T(128)} get-tuple-element(%state.2), index=0
  ROOT %less = pred[]{:T(512)} compare(%turn.1, %end), direction=LT
}

ENTRY %main (a: bf16[64,32], b: bf16[128,64]) -> bf16[128,64] {
  %a = bf16[64,32]{1,0} parameter(0)
  %b = bf16[128,64]{1,0} parameter(1)
  %first = s32[]{:T(128)} constant(1)
  %first.1 = s32[]{:T(128)} copy(%first)
  %init = (s32[]{:T(128)}, bf16[64,32]{1,0}, bf16[128,64]{1,0}) tuple(%first.1, %a, %b)
  %loop = (s32[], bf16[64,32]{1,0}, bf16[128,64]{1,0}) while(%init), condition=%condition, \
body=%body
  %aside = ((bf16[64,32]{1,0}), bf16[64,32]{1,0}) call-start(%a), \
async_execution_thread="sparsecore", to_apply=%sparse_core
  %aside.1 = bf16[64,32]{1,0} call-done(%aside)
  %token = token[] after-all()
  %away = (bf16[64,32]{1,0}, u32[], token[]) send(%aside.1, %token), channel_id=4, \
is_host_transfer=true, frontend_attributes={_xla_megascale_target="{1,2}x{0:7}",\
_xla_megascale_transfer_type="REDUCE_SCATTER"}
  %away.1 = token[] send-done(%away), channel_id=4, is_host_transfer=true
  %back = (bf16[32,32]{1,0}, u32[], token[]) recv(%token), channel_id=5, \
is_host_transfer=true, frontend_attributes={_xla_megascale_target="{1,2}x{0:7}",\
_xla_megascale_transfer_type="REDUCE_SCATTER"}
  %back.1 = (bf16[32,32]{1,0}, token[]) recv-done(%back), channel_id=5, is_host_transfer=true
  ROOT %result = bf16[128,64]{1,0} get-tuple-element(%loop), index=2
}
"""


def test_forms_of_tpu_programs_are_understood():
  cost = count(parse(TPU), size=8, main=lambda space: space == 0)
  turns = 4  # 1, 3, 5, 7: no length is written down
  found = {(moved.kind, moved.nbytes): number for moved, number in cost.transfers.items()}
  shard = 2 * 64 * 32
  assert found == {
    ("all-gather", shard): turns,  # begun in one fusion, going on in the next
    ("reduce-scatter", 2 * 128 * 64): turns,  # an all-reduce and a slice
    ("collective-permute", shard): turns,
    ("all-reduce", shard): 1,  # on another core
    ("reduce-scatter", shard): 1,  # from slice to slice
  }
  mesh = make_mesh("data:4,model:2")
  axes = {(row.kind, row.axes) for row in summarize(cost.transfers, mesh, CHIP)}
  assert axes == {
    ("all-gather", ("data",)),
    ("reduce-scatter", ("data",)),
    ("collective-permute", ("data",)),
    ("all-reduce", ("model",)),
  }
  assert cost.products == turns * 2 * 128 * 64 * 64
  assert not cost.loops and not cost.opaque
  # Gather: the shard is on the chip, its result is not. Product: three arrays. Scatter: operand
  # and result. Halo: operand and result. Counter: read twice and written.
  turn = 4 * shard + 2 * (2 * 128 * 64 + 64 * 64) + 2 * (128 * 64 + 64 * 64) + 2 * shard + 3 * 4
  condition = 4 + 4 + 1
  aside, away, flags = 2 * shard, shard + shard // 2, 4
  once = 2 * 4 + aside + away + flags
  assert cost.traffic == turns * turn + (turns + 1) * condition + once


def test_lengths_are_read_from_the_program_where_they_are_not_written_down():
  def f(x):
    x = lax.fori_loop(2, 9, lambda i, x: jnp.sin(x) * i, x)
    return lax.scan(lambda x, _: (x @ x, None), x, None, length=6, reverse=True)[0]

  text = jax.jit(f).lower(jnp.ones((256, 256))).compile().as_text()
  written = count(parse(text), size=1, main=lambda space: True)
  bare = re.sub("known_trip_count", "left_out", text)
  assert bare != text
  assert count(parse(bare), size=1, main=lambda space: True) == written
