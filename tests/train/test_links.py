"""Groups of devices: read in every form, placed on axes of a mesh and on links of a machine."""

import os
from typing import NamedTuple

import jax
import numpy as np
import pytest

from repjax.train.chips import CHIPS, chip_of
from repjax.train.links import axes_crossed, read_groups, road
from repjax.train.mesh import make_mesh

LISTS = "{{0,2,4,6},{1,3,5,7}}"


@pytest.mark.parametrize(
  ("text", "groups"),
  [
    (LISTS, [[0, 2, 4, 6], [1, 3, 5, 7]]),
    ("{}", [list(range(8))]),
    ("[4,2]<=[8]", [[0, 1], [2, 3], [4, 5], [6, 7]]),
    ("[2,4]<=[4,2]T(1,0)", [[0, 2, 4, 6], [1, 3, 5, 7]]),
    ("mesh['a'=4,'b'=2] {'b'}", [[0, 1], [2, 3], [4, 5], [6, 7]]),
    ("mesh['a'=4,'b'=2] {'a'}", [[0, 2, 4, 6], [1, 3, 5, 7]]),
    ("mesh['a'=2,'b'=1,'c'=4] {'a','c'}", [list(range(8))]),
    ("mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
    ("mesh['a'=1,'b'=2,'c'=4], device_ids=([4,2]T(1,0)) {'c'}", [[0, 2, 4, 6], [1, 3, 5, 7]]),
    ("mesh['a'=4,'b'=2], device_ids=([8]) {'b'}", [[0, 1], [2, 3], [4, 5], [6, 7]]),
    # Halves of an axis of four: first its slow part, then its fast one.
    ("mesh['a'=4,'b'=2] {'a':(1)2}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
    ("mesh['a'=4,'b'=2] {'a':(2)2}", [[0, 2], [1, 3], [4, 6], [5, 7]]),
  ],
)
def test_groups_are_read_in_each_form(text, groups):
  np.testing.assert_array_equal(read_groups(text, 8), groups)


@pytest.mark.parametrize("text", ["{{0,1},{2}}", "mesh['a'=2], device_ids=((1,0)) {'a'}", "other"])
def test_groups_that_are_not_understood_are_an_error(text):
  with pytest.raises(ValueError, match="expected"):
    read_groups(text, 8)


@pytest.mark.parametrize(
  ("groups", "axes"),
  [
    ("[4,2]<=[8]", ("model",)),
    (LISTS, ("data", "fsdp")),
    ("{{0,2},{1,3},{4,6},{5,7}}", ("fsdp",)),
    ("{{0,4},{1,5},{2,6},{3,7}}", ("data",)),
    ("{}", ("data", "fsdp", "model")),
  ],
)
def test_groups_cross_the_axes_along_which_their_members_differ(groups, axes):
  mesh = make_mesh("data:2,fsdp:2,model:2")
  assert axes_crossed(read_groups(groups, 8), mesh) == axes


class Device(NamedTuple):
  """A device that is not here."""

  platform: str
  coords: tuple[int, int, int] = (0, 0, 0)
  slice_index: int | None = None
  process_index: int = 0


def torus(*sides):
  return [Device("tpu", tuple(place[::-1])) for place in np.ndindex(*sides[::-1])]


V5E, V4 = CHIPS["TPU v5 lite"], CHIPS["TPU v4"]


@pytest.mark.parametrize(
  ("chip", "sides", "group", "links"),
  [
    (V5E, (16, 16, 1), range(256), 4),  # everybody: both axes, both ways
    (V5E, (16, 16, 1), range(16), 2),  # a row, which closes
    (V5E, (16, 16, 1), range(0, 256, 16), 2),  # a column
    (V5E, (16, 16, 1), range(4), 1),  # a quarter of a row does not close
    (V5E, (16, 16, 1), range(0, 16, 4), 0.5),  # every fourth: four rings share the links
    (V5E, (8, 16, 1), range(8), 1),  # a row of eight of sixteen does not close
    (V4, (4, 4, 8), range(128), 6),
    (V4, (4, 4, 8), range(0, 128, 16), 2),
    (V4, (2, 2, 4), range(4), 2),  # a square of two by two: one way on each axis
  ],
)
def test_a_group_on_a_torus_has_the_links_of_the_axes_it_covers(chip, sides, group, links):
  way = road(np.array([list(group)]), torus(*sides), chip)
  assert way.medium == "ICI"
  assert np.isclose(way.bandwidth, links * chip.link)


def test_permutations_take_as_many_links_as_lie_between():
  devices = torus(16, 16, 1)
  hops = lambda *pairs: road(np.array(pairs), devices, V5E, pairs=True).hops
  assert hops((0, 1), (1, 2)) == 1
  assert hops((0, 15)) == 1  # around the ring
  assert hops((0, 16 * 3 + 5)) == 8
  assert hops((0, 1), (0, 3)) == 2


def test_slices_are_joined_by_the_network_of_their_members():
  devices = [
    device._replace(slice_index=index) for index in range(2) for device in torus(4, 4, 1)
  ]  # fmt: skip
  way = lambda *groups: road(np.array(groups), devices, V5E)
  assert way(range(16), range(16, 32)).medium == "ICI"
  one = way(*([i, i + 16] for i in range(16)))
  assert (one.medium, one.bandwidth) == ("network", V5E.network)
  # All chips of a slice take part, each with its share of the cards.
  assert way(range(32)).bandwidth == min(16 * V5E.network, V5E.links * V5E.link)


def test_gpus_of_a_host_have_nvlink_and_hosts_a_network():
  chip = CHIPS["NVIDIA H100 80GB HBM3"]
  devices = [Device("gpu", process_index=index // 8) for index in range(16)]
  near = road(np.array([range(8), range(8, 16)]), devices, chip)
  assert (near.medium, near.bandwidth) == ("NVLink", 450e9)
  far = road(np.array([[0, 8]]), devices, chip)
  assert (far.medium, far.bandwidth) == ("network", 50e9)
  assert road(np.array([range(16)]), devices, chip).bandwidth == 400e9


def test_an_unknown_network_is_not_guessed():
  devices = [Device("gpu", process_index=index) for index in range(2)]
  assert np.isnan(road(np.array([[0, 1]]), devices, CHIPS["NVIDIA L4"]).bandwidth)


def test_simulated_devices_share_what_is_measured_of_the_machine():
  share = chip_of(jax.devices()[0], sharing=8)
  assert np.isclose(8 * share.memory, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
  assert share.medium == "host memory" and 0 < share.link < share.bandwidth and share.flops > 0
