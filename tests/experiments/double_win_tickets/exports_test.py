"""Which of the transferred tickets is exported."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from experiments.double_win_tickets.exports import export_best_transfers
from tests.work.transfer_plans import DENSE, FIRST, TARGET_IMAGES
from tf_tickets.deployment import exports
from tf_tickets.image_work.cuts import fresh_weights
from tf_tickets.masking.ticket import Provenance, dense_ticket
from tf_tickets.work.nodes import FoundTicket
from tf_tickets.work.store import Record, Store

WEIGHTS = fresh_weights(DENSE.network, 0)
TICKET = dense_ticket(
    {"conv_1/kernel": WEIGHTS["conv_1/kernel"].shape},
    Provenance("pretended", "lenet_conv", {}, "d", 0, 0, "", "", {}),
)


def pruned(level, **changes):
    """A transfer of a ticket of that level."""
    found = FoundTicket(dataclasses.replace(FIRST.masks, sparsity=level / 10), level)
    labels = {**DENSE.labels, "method": "at_imp", "level": level}
    return dataclasses.replace(DENSE, masks=found, stream=level, labels=labels, **changes)


def finish(store, training, *robust):
    """A pretended record with such robust accuracies, the first one before any training."""
    history = [
        (at, f"validation/{name}/accuracy", value)
        for at, value in enumerate(robust)
        for name, value in (("natural", 1 - value), ("pgd_2", value))
    ]
    weights = [WEIGHTS, {path: np.zeros_like(array) for path, array in WEIGHTS.items()}]
    store.finish(training, Record(tuple(history), (1, 2), 0.0), TICKET, weights)


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """Exports of trainings with such accuracies: key → place."""
    store = Store(tmp_path / "store")
    networks = []

    def export(model, ticket, place, *_):
        networks.append(model)
        return place

    monkeypatch.setattr(exports, "export_saved_model", export)

    def call(accuracies, others=()):
        for training, robust in accuracies.items():
            finish(store, training, *robust)
        trainings = [*accuracies, *others]
        found = export_best_transfers(trainings, store, lambda _: TARGET_IMAGES, Path("exports"))
        for model in networks:  # With the weights of the best robust accuracy.
            assert np.array_equal(model.weights[0].numpy(), WEIGHTS["conv_1/kernel"])
        return {key: str(place) for key, place in found.items()}

    return call


def test_it_is_the_sparsest_that_is_as_robust_as_the_dense_network(exported):
    found = exported(
        {
            DENSE: (0.9, 0.5, 0.3),
            pruned(1): (0.9, 0.6, 0.7),
            pruned(3): (0.9, 0.2, 0.5),
            pruned(5): (0.9, 0.4, 0.4),
            # Of fewer images, and against nothing.
            pruned(7, data=dataclasses.replace(DENSE.data, percent=50.0)): (0.9, 0.9, 0.9),
            pruned(8, against="natural", attack=None): (0.9, 0.9, 0.9),
        }
    )
    place = "exports/mnist_classes_0_4/at_imp/level_03"
    assert found == {"mnist_classes_0_4, at_imp, level 3": place}


def test_without_any_it_is_the_most_robust(exported):
    found = exported({DENSE: (0, 0.5), pruned(1): (0, 0.3), pruned(2): (0, 0.4), pruned(3): (0, 0)})
    assert list(found) == ["mnist_classes_0_4, at_imp, level 2"]


def test_a_target_that_is_not_finished_is_left_out(exported):
    assert exported({DENSE: (0, 0.5), pruned(1): (0, 0.6)}, [pruned(2)]) == {}
