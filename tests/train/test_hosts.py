"""Meeting: what the surroundings tell, and what is asked of a user where they tell nothing."""

import pytest

from repjax.train import hosts, make_mesh

SLURM = {
  "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[1-2]", "SLURM_NTASKS": "4",
  "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_ID": "0",
}  # fmt: skip
KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"}
TPU = "tpu,cpu"  # what JAX makes of jax_platforms where it finds chips


@pytest.mark.parametrize(
  ("surroundings", "environment", "platforms"),
  [
    ("a laptop", {}, None),
    ("a laptop with a GPU", {}, "cuda,cpu"),
    ("a Slurm allocation outside of a step", {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, None),
    ("a step of one task", SLURM | {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"}, None),
    ("a shell of salloc for four tasks", SLURM | {"SLURM_STEP_ID": str(0xFFFFFFFA)}, None),
    ("one task of an allocation of four", SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, None),
    ("a pod that belongs to no indexed Job", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),
    ("chips that were kept from asking for others", {"TPU_SKIP_MDS_QUERY": "1"}, TPU),
    ("a TPU VM held to its CPU", {"TPU_WORKER_HOSTNAMES": "a,b"}, "cpu"),
  ],
)
def test_where_a_process_is_alone_it_waits_for_nobody(surroundings, environment, platforms):
  assert hosts.cluster(environment, platforms) is None, surroundings


@pytest.mark.parametrize(
  ("environment", "platforms"),
  [({}, TPU), ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_SKIP_MDS_QUERY": "true"}, TPU)],
)
def test_a_tpu_slice_needs_no_arguments(environment, platforms):
  assert hosts.cluster(environment, platforms) == {}


def test_a_step_of_slurm_has_as_many_processes_as_tasks():
  # In a step of two tasks within an allocation of four.
  told = hosts.cluster(SLURM | {"SLURM_STEP_NUM_TASKS": "2"}, None)
  assert told == {"cluster_detection_method": "slurm", "num_processes": 2}


def test_an_indexed_job_needs_what_jax_asks_kubernetes_with(monkeypatch):
  found = {"kubernetes": None}
  monkeypatch.setattr(hosts.importlib.util, "find_spec", lambda name: found[name])
  with pytest.raises(ImportError, match=r"pip install 'jax\[k8s\]'.*--process_count=1"):
    hosts.cluster(KUBERNETES, None)
  found["kubernetes"] = object()
  assert hosts.cluster(KUBERNETES, None) == {}


def test_arguments_that_do_not_fit_together_are_named():
  where = "10.0.0.1:1234"
  with pytest.raises(ValueError, match="--process_count not given beside --coordinator and --proc"):
    hosts.initialize(where, 0)
  with pytest.raises(ValueError, match="--coordinator and --process_id not given beside --proc"):
    hosts.initialize(process_count=2)
  with pytest.raises(ValueError, match="--process_id=2 is not below --process_count=2"):
    hosts.initialize(where, 2, 2)
  with pytest.raises(ValueError, match=r"--coordinator=10.0.0.1 is not HOST:PORT"):
    hosts.initialize("10.0.0.1", 0, 2)


def test_alone_there_is_nothing_to_ask(monkeypatch):
  for name, value in KUBERNETES.items():
    monkeypatch.setenv(name, value)
  hosts.initialize(process_count=1)
  assert hosts.is_lead()
  assert hosts.share({"a": 1}) == {"a": 1}
  assert hosts.by_lead(lambda: 5) == 5


def test_one_process_hears_of_its_own_sigterm_at_once():
  company = hosts.Company(make_mesh())
  assert not company.tell(False, 0.1)
  assert company.tell(True, 0.1)
  assert company.slowest(2) == {}
