"""Figures of "Double-Win Lottery Tickets": which are drawn, and what they show."""

import numpy as np
import pytest

from experiments.double_win_tickets import figures
from experiments.double_win_tickets.figures import (
    data_figures,
    pretraining_figures,
    pruning_figures,
)
from tests.analysis.readers import names, points, written_figures
from tests.experiments.double_win_tickets.maker import TransfersMaker, whole_run


@pytest.fixture
def transfers(tmp_path):
    return TransfersMaker(tmp_path / "results.csv")


@pytest.fixture
def kept(monkeypatch):
    return written_figures(monkeypatch, figures)


def lines(axes, style="-"):
    """Colour → the points of the lines of that style."""
    return {line.get_color(): points(line) for line in axes.lines if line.get_linestyle() == style}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_pretraining(transfers, tmp_path, kept):
    found = names(pretraining_figures(whole_run(transfers).group(), tmp_path))
    assert found == ["figure_03_cifar10_pretraining.png"]
    assert legend(kept[0]) == [
        "STD, IMP (standard)", "FAT, IMP (standard)", "AT, IMP (standard)", "AT, random",
        "dense", "matches dense",
    ]  # fmt: skip
    assert "3 seeds" in kept[0].get_suptitle()
    panels = kept[0].axes
    assert [axes.get_ylabel() for axes in panels] == [
        "SA, standard training (%)",
        "SA, adversarial training (%)",
        "RA (PGD-20), adversarial training (%)",
    ]
    # The paper's colours: STD orange, FAT green, AT blue, random red.
    curves = lines(panels[0])
    np.testing.assert_allclose(curves["C1"], [[0, 80], [1, 75], [2, 80], [3, 75], [4, 75]])
    np.testing.assert_allclose(curves["C0"], [[0, 80], [1, 81], [2, 85], [3, 80], [4, 75]])
    np.testing.assert_allclose(curves["C3"], [[0, 80], [1, 70], [2, 60], [3, 50], [4, 40]])
    # Dense, and what matches it.
    assert set(lines(panels[0], "--")) == {"C0", "C1", "C2", "C3"}
    np.testing.assert_allclose(lines(panels[0], "--")["C1"][:, 1], [80, 80])
    np.testing.assert_allclose(lines(panels[0], "None")["C1"], [[0, 80], [2, 80]])
    np.testing.assert_allclose(lines(panels[0], "None")["C2"], [[0, 80], [1, 83], [2, 82]])


def test_levels_are_evenly_spaced_under_their_sparsities(transfers, tmp_path, kept):
    for level, robust in ((2, 0.5), (10, 0.3)):
        transfers.transfer(("std", "imp_st", 100), robust=[robust], level=level)
    pretraining_figures(transfers.group(), tmp_path)
    last = kept[0].axes[-1]
    assert last.get_xticks().tolist() == [2, 10]
    assert [label.get_text() for label in last.get_xticklabels()] == ["36.00", "89.26"]
    np.testing.assert_allclose(lines(last)["C1"], [[2, 50], [10, 30]])
    # Without dense nothing is said of matching it, and what was not measured stays empty.
    assert legend(kept[0]) == ["STD, IMP (standard)"]
    assert not kept[0].axes[0].lines


def test_pruning(transfers, tmp_path, kept):
    transfers.transfer(("at", "dense", 100), *[[0.8, 0.9]] * 3)
    for pruning, accuracy in (("imp_at", 0.7), ("omp", 0.6), ("imp_st", 0.5)):
        transfers.transfer(("at", pruning, 100), *[[accuracy]] * 3, level=1)
    # Neither other pre-training nor other data.
    transfers.transfer(("std", "imp_st", 100), *[[0.1]] * 3, level=1)
    transfers.transfer(("at", "random", 10), *[[0.1]] * 3, level=1)
    found = names(pruning_figures(transfers.group(), tmp_path))
    assert found == ["figure_04_cifar10_pruning.png"]
    labels = ["AT, IMP (standard)", "AT, IMP (adversarial)", "AT, one-shot magnitude"]
    assert legend(kept[0])[:-2] == labels
    ends = [curve[-1].tolist() for curve in lines(kept[0].axes[2]).values()]
    assert sorted(ends) == [[1, 50], [1, 60], [1, 70]]


def test_data_has_a_column_per_share(transfers, tmp_path, kept):
    found = names(data_figures(whole_run(transfers).group(), tmp_path))
    assert found == ["figure_05_cifar10_data.png"]
    assert len(kept[0].axes) == 6
    titles = [axes.get_title() for axes in kept[0].axes[:2]]
    assert titles == ["100% of the training data", "10% of the training data"]
    assert legend(kept[0])[:3] == [
        "STD, IMP (standard)", "FAT, IMP (standard)", "AT, IMP (standard)"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "figures, network",
    [
        (pretraining_figures, ("at", "random", 100)),
        (pretraining_figures, ("at", "imp_st", 10)),
        (pruning_figures, ("at", "imp_st", 100)),
        (pruning_figures, ("at", "omp", 10)),
        (data_figures, ("at", "imp_st", 100)),
        (data_figures, ("at", "omp", 10)),
    ],
)
def test_what_another_figure_shows_or_nobody_measured_is_not_drawn(
    transfers, tmp_path, figures, network
):
    transfers.transfer(network, [0.5], [0.5], [0.5], level=1)
    assert figures(transfers.group(), tmp_path) == []


def test_equal_accuracies_leave_an_axis_of_a_point(transfers, tmp_path, kept):
    for network, level in ((("at", "dense", 100), 0), (("at", "imp_st", 100), 1)):
        transfers.transfer(network, *[[0.0, 0.0]] * 3, level=level)
    pretraining_figures(transfers.group(), tmp_path)
    low, high = kept[0].axes[0].get_ylim()
    assert low < 0 < high and high - low == pytest.approx(1)
