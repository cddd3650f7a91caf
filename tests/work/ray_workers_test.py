"""Work on a Ray cluster of two nodes on loopback."""

import pytest

from tests.work.plans import FINDING, TRAININGS, measured
from tests.work.side_by_side_test import WANTED, contents, run, setup_of
from tf_tickets.errors import UserError
from tf_tickets.work.ray_workers import LOCAL, RayWorkers, cluster, room
from tf_tickets.work.runner import carry_out, missing
from tf_tickets.work.side_by_side import SideBySide
from tf_tickets.work.store import Store

ray = pytest.importorskip("ray", reason="the extra `cluster` is not installed")


@pytest.fixture
def two_nodes():
    """The address of a cluster of two machines, as Ray sees them, with a CPU each."""
    from ray.cluster_utils import Cluster

    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    machines.add_node(num_cpus=1)
    machines.wait_for_nodes()
    yield machines
    machines.shutdown()


def run_on_cluster(root, address, wanted=WANTED, on_finished=lambda node: None):
    store = Store(root / "store")
    with cluster(address):
        assert address == LOCAL or room(1) == 2
        kind = RayWorkers(setup_of(root))
        with SideBySide(2, kind, lambda *_: None, lambda: None) as executor:
            carry_out(missing(wanted, store), store, executor, on_finished)
    return store


def test_two_nodes_do_what_one_process_does(tmp_path, two_nodes):
    store = run_on_cluster(tmp_path / "cluster", two_nodes.address)
    assert contents(store) == contents(run(tmp_path / "one", 1))


def test_the_work_of_a_lost_node_goes_on_on_the_other(tmp_path, two_nodes):
    lost = []

    def lose(_node):
        if not lost:
            lost.extend(two_nodes.worker_nodes)
            two_nodes.remove_node(lost[0], allow_graceful=False)

    store = run_on_cluster(tmp_path, two_nodes.address, on_finished=lose)
    assert lost and all(map(store.is_finished, (*TRAININGS, *WANTED)))


def test_a_cluster_of_this_machine_alone(tmp_path):
    store = run_on_cluster(tmp_path, LOCAL, [measured(FINDING)])
    assert store.is_finished(measured(FINDING))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "10.0.0.1:port"])
def test_an_address_without_a_cluster_is_one_line(address):
    with pytest.raises(UserError, match=f"^--ray_address={address}: no cluster there"):
        with cluster(address):
            pass
