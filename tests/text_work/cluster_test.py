"""Texts on a Ray cluster of this machine: the same numbers as in one process."""

import pytest

pytest.importorskip("keras_nlp", reason="needs the extra `text`")
pytest.importorskip("ray", reason="the extra `cluster` is not installed")

from tests.models.tiny_bert import write_folder  # noqa: E402
from tests.text_work.work_test import make_trial, run  # noqa: E402
from tf_tickets.masking.ticket import arrays_sha256  # noqa: E402
from tf_tickets.text_work.work import TextSetup  # noqa: E402
from tf_tickets.work.nodes import in_order  # noqa: E402
from tf_tickets.work.places import Places  # noqa: E402
from tf_tickets.work.ray_workers import LOCAL, RayWorkers, cluster  # noqa: E402
from tf_tickets.work.runner import carry_out, missing  # noqa: E402
from tf_tickets.work.side_by_side import SideBySide  # noqa: E402
from tf_tickets.work.store import Store  # noqa: E402


def numbers(store, node):
    """What came of a training, but for times."""
    history = [entry for entry in store.record(node).history if "seconds" not in entry[1]]
    return arrays_sha256(store.weights(node)), history


def test_a_search_and_what_is_drawn_from_it(tmp_path):
    trial = make_trial(write_folder(tmp_path / "encoder"))
    wanted = [trial.training("robust")]
    nodes = in_order(wanted)
    store = Store(tmp_path / "cluster" / "store")
    events = {node.identity: str(tmp_path / node.identity) for node in nodes}
    with cluster(LOCAL):
        kind = RayWorkers(TextSetup(str(store.root), Places(), 1, events))
        with SideBySide(1, kind, lambda *_: None, lambda: None) as executor:
            carry_out(missing(wanted, store), store, executor)
    alone = run(tmp_path / "alone", wanted)
    assert len(nodes) == 3
    assert [numbers(store, node) for node in nodes] == [numbers(alone, node) for node in nodes]
