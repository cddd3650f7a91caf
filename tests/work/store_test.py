"""Finished work on disk: whole or not there, of the work it says, unchanged, and locked."""

import json
import multiprocessing

import numpy as np
import pytest
import tf_keras as keras

from tests.work.plans import DENSE, FINDING, measured
from tests.work.structure_plans import PRUNED
from tf_tickets.errors import UserError
from tf_tickets.masking.ticket import Provenance, Ticket
from tf_tickets.models.keras_files import read_keras_model
from tf_tickets.models.weights import read_weights
from tf_tickets.structured.surgery import Removal
from tf_tickets.work.store import Record, Store

MASK = np.array([[True, False], [True, True]])
WEIGHTS = {"layer/kernel": np.where(MASK, 0.5, 0).astype(np.float32)}
RECORD = Record(((0, "validation/natural/loss", 2.5), (6, "train/fgsm/loss", 1 / 3)), (6,), 0.25)


def ticket():
    provenance = Provenance("fgsm training; dense", "m", {}, "d", 0, 0, "", "", {})
    return Ticket({"layer/kernel": MASK}, provenance)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    store.begin(FINDING)
    store.finish(FINDING, RECORD, ticket(), [WEIGHTS])
    return store


def test_what_was_stored_comes_back(store):
    assert store.is_finished(FINDING) and not store.is_finished(DENSE)
    assert store.record(FINDING) == RECORD
    assert store.ticket(FINDING) == ticket()
    np.testing.assert_array_equal(store.weights(FINDING)["layer/kernel"], WEIGHTS["layer/kernel"])
    assert json.loads((store.path(FINDING) / "node.json").read_text())["against"] == "fgsm"


def test_equal_work_gives_equal_bytes(store, tmp_path):
    other = Store(tmp_path / "other")
    other.begin(FINDING)
    other.finish(FINDING, RECORD, ticket(), [WEIGHTS])
    for path in store.path(FINDING).iterdir():
        assert path.read_bytes() == (other.path(FINDING) / path.name).read_bytes()


def test_finishing_ends_the_state_of_training(store):
    (store.checkpoint_path(DENSE)).mkdir(parents=True)
    store.finish(DENSE, RECORD)
    assert not store.checkpoint_path(DENSE).exists()


@pytest.mark.parametrize("name", ["record", "ticket", "weights"])
def test_no_changed_byte_goes_unnoticed(store, name):
    """Every byte of the three files, changed by one."""
    path = store.path(FINDING) / f"{name}.{'json' if name == 'record' else 'npz'}"
    whole = path.read_bytes()

    def read():
        return getattr(store, name)(FINDING)

    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        try:
            found = read()
            # White space between JSON's values says nothing.
            assert name == "record" and found == RECORD, place
        except UserError as error:
            assert str(error).count("to have it made anew") == 1, place
            assert str(store.path(FINDING)) in str(error) and len(str(error)) < 400
    path.write_bytes(whole)
    read()


@pytest.mark.parametrize("name", ["ticket.npz", "weights.npz", "record.json"])
def test_a_folder_in_place_of_a_file_is_named(store, name):
    path = store.path(FINDING) / name
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=f"{name}: a folder, not a file; delete its folder"):
        store.weights(FINDING)


def test_missing_files_are_named(store):
    store.weights_path(FINDING).unlink()
    with pytest.raises(
        UserError, match="weights.npz: no such file; delete its folder to have it made anew"
    ):
        store.weights(FINDING)


def test_a_record_of_other_work_is_refused(store):
    store.path(DENSE).mkdir()
    text = (store.path(FINDING) / "record.json").read_text()
    (store.path(DENSE) / "record.json").write_text(text)
    with pytest.raises(UserError, match="of other work than its folder says"):
        store.record(DENSE)


def test_weights_that_disobey_their_ticket_are_refused(store):
    full = {"layer/kernel": np.ones((2, 2), np.float32)}
    store.finish(DENSE, RECORD, ticket(), [full])
    with pytest.raises(UserError, match="1 weights of layer/kernel outside its mask are not zero"):
        store.weights(DENSE)


REMOVAL = {"filters": {"conv_1": [0, 2]}, "blocks": [], "scores": {"blocks": {"sum": 0.5}}}


@pytest.fixture
def cut(store):
    """A cut and what is trained of it, which has no ticket."""
    network = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(3, name="out")])
    store.finish(PRUNED.network, Record((), (4,), 0.25), removal=REMOVAL)
    store.finish(PRUNED, RECORD, weights=[read_weights(network)], network=network)
    return network


def test_a_removal_comes_back(store, cut):
    assert store.removal(PRUNED.network) == Removal({"conv_1": (0, 2)}, ())
    assert json.loads(store.removal_path(PRUNED.network).read_text()) == REMOVAL


def test_weights_without_a_ticket_come_back_with_their_network(store, cut):
    assert store.has_ticket(FINDING) and not store.has_ticket(PRUNED)
    for path, array in read_weights(cut).items():
        np.testing.assert_array_equal(store.weights(PRUNED)[path], array)
    found = read_weights(read_keras_model(store.network_path(PRUNED)))
    assert found.keys() == store.weights(PRUNED).keys()
    content = json.loads((store.path(PRUNED) / "record.json").read_text())["content"]
    assert set(content["sha256"]) == {"weights.npz", "network.keras"}


def test_no_changed_byte_of_a_removal_goes_unnoticed(store, cut):
    path = store.removal_path(PRUNED.network)
    whole = path.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(UserError, match="removal.json: damaged .* to have it made anew"):
            store.removal(PRUNED.network)


def test_versions_come_back(store):
    version = {"method": "without:conv_1:0", "element_index": 0}
    record = Record(((0, "test/natural/accuracy", 0.5),), (6,), 0.25, (version,))
    store.finish(DENSE, record)
    assert store.record(DENSE) == record


def test_versions_of_an_earlier_version_are_refused_in_a_line(store):
    """They were names, where labels are needed now."""
    store.finish(DENSE, Record(((0, "test/natural/accuracy", 0.5),), (6,), 0.25, ("without:a:0",)))
    with pytest.raises(UserError, match="of an earlier version; delete its folder to have") as it:
        store.record(DENSE)
    assert "\n" not in str(it.value) and str(store.path(DENSE)) in str(it.value)


def _hold(root, connection):
    with Store(root).locked(FINDING) as is_ours:
        connection.send(is_ours)
        connection.recv()


def test_work_is_kept_from_others_until_its_process_ends(store):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_hold, args=(store.root, theirs))
    process.start()
    assert ours.recv()
    with store.locked(FINDING) as is_ours:
        assert not is_ours
    with store.locked(DENSE) as is_ours:
        assert is_ours
    process.kill()
    process.join()
    with store.locked(FINDING) as is_ours:
        assert is_ours


def test_who_only_reads_writes_nothing(tmp_path):
    reader = Store(tmp_path / "store", writable=False)
    with reader.locked(FINDING) as is_ours:
        assert is_ours
    reader.begin(FINDING)
    reader.finish(measured(FINDING), RECORD)
    assert not (tmp_path / "store").exists()
