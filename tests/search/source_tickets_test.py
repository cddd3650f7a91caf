"""Pre-training and the search of tickets, against the paper's description of them."""

import itertools

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tests.models import torchvision_resnet
from tests.search.double_win_runs import open_run, phase
from tf_tickets.data.image_place import ImagePlace
from tf_tickets.errors import UserError
from tf_tickets.masking.magnitude import sparsity_after_rounds
from tf_tickets.runs.files import load_arrays
from tf_tickets.search.double_win import TICKETS, TicketKind
from tf_tickets.search.training_session import TrainingSession

IMP = TicketKind("at", "imp_st")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A finished search, and the network's state at the beginning of every training of it."""
    source, _ = open_run(
        tmp_path_factory.mktemp("run"), tickets=("at_imp_st", "at_omp", "at_random")
    )
    starts, train = [], TrainingSession.train

    def spy(session, trainer, *args, **how):
        slots = [np.abs(variable.numpy()).max() for variable in trainer.optimizer.variables()]
        starts.append((session.cell, session.level, trainer.weights(), slots))
        return train(session, trainer, *args, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingSession, "train", spy)
        source.pretrain()
        source.search()
    return source, starts


def kept_of(ticket):
    return sum(int(mask.sum()) for mask in ticket.masks.values())


def largest(weights, ticket, count):
    """By brute force: the masks of the `count` largest weights among those of a ticket."""
    entries = [
        (-abs(value), path, index)
        for path, mask in ticket.masks.items()
        for index, value in np.ndenumerate(weights[path])
        if mask[index]
    ]
    masks = {path: np.zeros_like(mask) for path, mask in ticket.masks.items()}
    for _, path, index in sorted(entries, key=lambda entry: entry[0])[:count]:
        masks[path][index] = True
    return masks


def assert_same(masks, expected):
    assert set(masks) == set(expected)
    for path, mask in masks.items():
        np.testing.assert_array_equal(mask, expected[path])


def test_tickets_hold_all_convolutions_and_nothing_else(searched):
    source, _ = searched
    weights = source.pretrained_weights("at")
    convolutions = {path for path, array in weights.items() if array.ndim == 4}
    assert set(source.ticket(IMP, 1).masks) == convolutions
    assert any("stem" in path for path in convolutions)
    assert any("shortcut" in path for path in convolutions)


@pytest.mark.parametrize("name", ["at_imp_st", "at_omp", "at_random"])
def test_every_round_takes_a_fifth_of_what_remains_of_the_whole_network(searched, name):
    source, _ = searched
    size = sum(mask.size for mask in source.ticket(TICKETS[name], 0).masks.values())
    for level in (1, 2, 3):
        ticket = source.ticket(TICKETS[name], level)
        assert kept_of(ticket) == round(0.8**level * size)
        assert ticket.is_within(source.ticket(TICKETS[name], level - 1))
        assert ticket.provenance.level == level


def test_the_ladder_of_the_paper_ends_at_98_56_percent():
    assert round(100 * sparsity_after_rounds(19), 2) == 98.56


def test_the_first_prune_is_of_the_pretrained_weights(searched):
    source, _ = searched
    weights = source.pretrained_weights("at")
    first = source.ticket(IMP, 1)
    assert_same(first.masks, largest(weights, source.ticket(IMP, 0), kept_of(first)))
    one_shot = source.ticket(TicketKind("at", "omp"), 3)
    assert_same(one_shot.masks, largest(weights, source.ticket(IMP, 0), kept_of(one_shot)))


def test_later_prunes_are_of_the_retrained_weights(searched):
    source, _ = searched
    for level in (2, 3):
        path = source.run.trained_weights_path(source.settings.search_cell(IMP), level - 1)
        ticket, parent = source.ticket(IMP, level), source.ticket(IMP, level - 1)
        assert_same(ticket.masks, largest(load_arrays(path), parent, kept_of(ticket)))
        assert ticket.provenance.parent_sha256 == parent.sha256


def test_random_tickets_prune_all_layers_alike(searched):
    source, _ = searched
    densities = source.ticket(TicketKind("at", "random"), 3).layer_densities
    magnitudes = source.ticket(TicketKind("at", "omp"), 3).layer_densities
    assert np.std(list(densities.values())) < np.std(list(magnitudes.values()))


def test_rewinding_restores_all_pretrained_weights_and_a_fresh_optimizer(searched):
    """BatchNorm's statistics and the head too, which retraining has moved."""
    source, starts = searched
    pretrained = source.pretrained_weights("at")
    rounds = [start for start in starts if start[0].method == "at_imp_st"]
    assert [level for _, level, *_ in rounds] == [1, 2]
    for cell, level, weights, slots in rounds:
        masks = source.ticket(IMP, level).masks
        for path, array in pretrained.items():
            expected = np.where(masks[path], array, 0) if path in masks else array
            np.testing.assert_array_equal(weights[path], expected)
        assert max(slots) == 0
        trained = load_arrays(source.run.trained_weights_path(cell, level))
        statistics = [path for path in trained if "moving_" in path]
        assert len(statistics) == 2 * sum("gamma" in path for path in trained)
        for path in statistics:
            assert np.any(trained[path] != pretrained[path])


def test_pretraining_is_measured_naturally_and_under_attack(searched):
    source, _ = searched
    rows = source.run.finished_results(source.settings.pretraining_cell("at"), 0)
    metrics = {row.metric for row in rows}
    assert {"test/natural/accuracy", "test/pgd_20/accuracy"} <= metrics


def test_what_is_finished_is_not_done_again(searched, monkeypatch):
    source, _ = searched
    monkeypatch.setattr(TrainingSession, "train", None)
    source.pretrain()
    source.search()


def test_a_missing_stage_is_named(tmp_path):
    source, _ = open_run(tmp_path)
    with pytest.raises(UserError, match="--stage=pretrain"):
        source.pretrained_weights("at")
    with pytest.raises(UserError, match="--stage=pretrain"):
        source.search()


def test_a_ticket_of_other_pretrained_weights_is_refused(searched, tmp_path):
    other, _ = open_run(tmp_path, seeds=(1,))
    other.pretrain()
    source, _ = searched
    ticket = source.run.ticket_path(source.settings.search_cell(IMP), 1)
    place = other.run.ticket_path(other.settings.search_cell(IMP), 1)
    place.parent.mkdir(parents=True)
    place.write_bytes(ticket.read_bytes())
    with pytest.raises(UserError, match="belongs to other initial weights"):
        other.ticket(IMP, 1)


@pytest.fixture
def animals(tmp_path):
    """A folder of colour images of two classes."""
    random = np.random.default_rng(0)
    for split, name in itertools.product(("train", "test"), ("cats", "dogs")):
        folder = tmp_path / "animals" / split / name
        folder.mkdir(parents=True)
        for number in range(16):
            pixels = random.integers(256, size=(32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "animals"


@pytest.mark.parametrize(("classes", "keeps_head"), [(2, True), (5, False)])
def test_public_weights_stand_for_a_pretraining(tmp_path, animals, classes, keeps_head):
    arrays = torchvision_resnet.state_dict(torchvision_resnet.NARROW_WIDTH, classes)
    weights = tmp_path / "weights.safetensors"
    save_file({name: np.asarray(array, np.float32) for name, array in arrays.items()}, weights)
    narrow = {"model": "resnet_50_v1_5", "width_multiplier": torchvision_resnet.NARROW_WIDTH / 64}
    source, _ = open_run(
        tmp_path / "run",
        source="animals",
        place=ImagePlace("tfds", None, {"animals": str(animals)}, 32),
        source_examples=0,
        validation_examples=0,
        test_examples=4,
        pretrained={"at": str(weights)},
        tickets=("at_omp",),
        pretraining=phase(**narrow),
        retraining=phase(**narrow),
        evaluation_attacks={},
    )
    source.pretrain()
    source.search()
    found = source.pretrained_weights("at")
    np.testing.assert_array_equal(
        found["stem/conv/kernel"], np.float32(arrays["conv1.weight"]).transpose(2, 3, 1, 0)
    )
    head = np.array_equal(found["logits/bias"], np.float32(arrays["fc.bias"]))
    assert head == keeps_head and found["logits/bias"].shape == (2,)
    # Chance is not what the weights are worth.
    measured = source.run.finished_results(source.settings.pretraining_cell("at"), 0)
    assert bool(measured) == keeps_head
    ticket = source.ticket(TicketKind("at", "omp"), 3)
    assert_same(ticket.masks, largest(found, source.ticket(IMP, 0), kept_of(ticket)))
    with pytest.raises(UserError, match=f"--pretrained=at={weights}: holds weights for RGB"):
        open_run(tmp_path / "gray", pretrained={"at": str(weights)})[0].pretrain()


def test_an_error_in_a_folder_names_only_the_flag_that_gave_it(animals):
    for number in range(1, 16):
        (animals / "train" / "dogs" / f"{number}.png").unlink()
    place = ImagePlace("tfds", None, {"animals": str(animals)}, 32)
    with pytest.raises(UserError) as caught:
        place.load("animals", seed=0)
    expected = f"--folders=animals={animals}: too few training images of class dogs"
    assert str(caught.value).startswith(expected)
