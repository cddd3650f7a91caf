"""What a plan says before it is carried out."""

import dataclasses

import pytest

from tests.work.plans import DENSE, FINDING, TRAININGS, measured
from tests.work.structure_plans import PRUNED, WHOLE, meets
from tf_tickets.work.overview import overview
from tf_tickets.work.performing import passes, passes_of_steps
from tf_tickets.work.store import Record, Store

WANTED = tuple(map(measured, TRAININGS))
NOT_KNOWN = "not known before the first training of each network has ended"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def finish(store, training, seconds):
    """A training that took so long, as it was told along the way."""
    told = ((3, "train/pgd/seconds", seconds / 2), (6, "train/pgd/seconds", seconds))
    store.finish(training, Record((*told, (6, "train/pgd/loss", 1e6)), (6,), 0.0))


def lines(wanted, store, workers=1):
    return overview(wanted, store, workers).splitlines()


def expected_time(wanted, store, workers=1):
    (line,) = [line for line in lines(wanted, store, workers) if line.startswith("expected")]
    return line.removeprefix("expected time: ")


def test_nothing_is_there(store):
    assert lines(WANTED, store) == [
        "4 trainings: 0 are there, 4 to be done",
        "4 measurements: 0 are there, 4 to be done",
        f"expected time: {NOT_KNOWN}",
        f"work is kept in {store.root}",
    ]
    assert not store.root.exists()


def test_cuts_are_counted_apart_and_networks_take_the_time_of_whole_ones(store):
    wanted = [*meets(PRUNED), *meets(WHOLE)]
    assert lines(wanted, store)[:3] == [
        "2 trainings: 0 are there, 2 to be done",
        "6 measurements: 0 are there, 6 to be done",
        "1 cuts: 0 are there, 1 to be done",
    ]
    finish(store, WHOLE, 3600)
    store.finish(PRUNED.network, Record((), (4,), 0.25))
    assert lines(wanted, store)[:3] == [
        "2 trainings: 1 are there, 1 to be done",
        "6 measurements: 0 are there, 6 to be done",
        "1 cuts: 1 are there, 0 to be done",
    ]
    todo = passes(PRUNED) + sum(map(passes, wanted))
    assert expected_time(wanted, store) == f"about {60 * todo / passes_of_steps(WHOLE):.0f} min"


def test_what_is_wanted_twice_is_counted_once(store):
    again = dataclasses.replace(DENSE, labels={"method": "other"})
    counted = lines([measured(DENSE), measured(again)], store)
    assert counted[:2] == [
        "1 trainings: 0 are there, 1 to be done",
        "1 measurements: 0 are there, 1 to be done",
    ]


def test_what_is_there_is_counted(store):
    finish(store, FINDING, 60)
    store.finish(measured(FINDING), Record((), (6,), 0.0))
    assert lines(WANTED, store)[:2] == [
        "4 trainings: 1 are there, 3 to be done",
        "4 measurements: 1 are there, 3 to be done",
    ]


def test_nothing_to_be_done_takes_no_time(store):
    finish(store, DENSE, 60)
    store.finish(measured(DENSE), Record((), (6,), 0.0))
    assert expected_time([measured(DENSE)], store) == "none"


def test_time_is_that_of_finished_trainings_of_the_network(store):
    """The steps of two took 4 h together: a pass takes 4 h by the steps' passes of both."""
    finish(store, FINDING, 3600)
    finish(store, DENSE, 3 * 3600)
    a_pass = 4 * 60 / (passes_of_steps(FINDING) + passes_of_steps(DENSE))
    missing = (*TRAININGS[2:], *WANTED)
    minutes = a_pass * sum(map(passes, missing))
    assert expected_time(WANTED, store) == f"about {minutes:.0f} min"
    assert expected_time(WANTED, store, workers=2) == f"about {minutes / 2:.0f} min"


def test_a_hand_worked_time(store):
    """FINDING's 6 steps pass 20 images 3 times: 360 in 360 min, without its evaluations.

    The measurement that is missing passes 30 images of 7 halves: 105.
    """
    finish(store, FINDING, 360 * 60)
    assert expected_time([measured(FINDING)], store) == "about 105 min"


def test_more_workers_than_work_help_no_more(store):
    finish(store, FINDING, 360 * 60)
    assert expected_time([measured(FINDING)], store, workers=9) == "about 105 min"


def test_a_short_time(store):
    finish(store, FINDING, 1)
    assert expected_time(WANTED, store) == "less than a minute"


def test_time_is_not_known_of_a_network_that_never_trained(store):
    finish(store, FINDING, 60)
    network = dataclasses.replace(DENSE.network, name="lenet_conv")
    other = dataclasses.replace(DENSE, network=network)
    assert expected_time([measured(FINDING), measured(other)], store) == NOT_KNOWN
    assert expected_time([measured(FINDING)], store) == "less than a minute"
