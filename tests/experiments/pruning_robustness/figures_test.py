"""Figures of "On the Effect of Pruning ...": which are drawn, and what they show."""

import numpy as np
import pytest

from experiments.pruning_robustness import figures
from experiments.pruning_robustness.figures import FIGURES
from experiments.pruning_robustness.network_tests import transfer_attack
from experiments.pruning_robustness.results import STUDIES
from tests.analysis.readers import names, points, written_figures
from tests.experiments.pruning_robustness.maker import UNPRUNED, cut, without


def draw(networks, study, directory, reference):
    """The names of the files that the study draws for its only group."""
    return names(FIGURES[study](networks.group(study), reference, directory))


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def bars(axes):
    """For each label its points, shape [n, 2], and half the lengths of the bars that are drawn."""
    drawn = []
    for container in axes.containers:
        line, _, segments = container.lines  # Of one seed there are no bars.
        ends_of = segments[0].get_segments() if segments else []
        lengths = [np.ptp(ends[:, 1]) for ends in ends_of if len(ends)]
        drawn.append((points(line), np.array(lengths) / 2))
    return drawn


def test_every_study_has_figures():
    assert list(FIGURES) == list(STUDIES)


def test_structures_has_a_panel_per_network(pruned, tmp_path, monkeypatch, reference):
    kept = written_figures(monkeypatch, figures)
    pruned.network(UNPRUNED, natural=[0.9], model="vgg_16")
    pruned.network(cut("pls"), natural=[0.8], level=1, model="vgg_16")
    drawn = draw(pruned, "structures", tmp_path, reference)
    assert drawn == ["table_1_cifar10_structures.png"]
    resnet, vgg = kept[0].axes
    assert resnet.get_title() == "ResNet-56" and vgg.get_title() == "VGG-16"
    assert legend(kept[0]) == ["filters", "trained on (control)", "the paper's"]
    assert [label.get_text() for label in resnet.get_xticklabels()] == [
        "Semantic", "Occlusion", "FGSM", "Clean",
    ]  # fmt: skip
    (filters, sd), (control, _) = bars(resnet)
    np.testing.assert_allclose(filters, [[-0.3, 2.5], [0.7, 3], [1.7, -0.5], [2.7, 1]], atol=1e-9)
    np.testing.assert_allclose(sd, np.sqrt([0.5, 0, 0.5, 2]), atol=1e-9)
    np.testing.assert_allclose(control[:, 0], [0.3, 1.3, 2.3, 3.3])
    ((found, sd), *_) = bars(vgg)
    np.testing.assert_allclose(found[3], [2.7, -10])
    assert not len(sd)
    crosses = [points(line) for line in resnet.lines if line.get_marker() == "x"]
    np.testing.assert_allclose(crosses[0][:, 1], [1.58, 2.76, 3.68, 0.60])  # Its Table 1.
    assert "CIFAR-10: structures removed, mean ± sd of 2 seeds" in kept[0].get_suptitle()
    assert "as the paper's Table 1" in kept[0].get_suptitle()


@pytest.mark.parametrize(
    ("study", "labels", "regime", "file", "label"),
    [
        ("criteria", cut("hrank"), "natural", "table_2_cifar10_resnet_56_criteria", "HRank"),
        ("adjustment", cut("pls", adjustment="winning_ticket"), "natural",
         "table_3_cifar10_resnet_56_adjustment", "W-ticket"),
        ("defenses", UNPRUNED, "cutout", "table_5_cifar10_resnet_56_defenses", "Cutout"),
    ],
)  # fmt: skip
def test_differences(pruned, tmp_path, monkeypatch, reference, study, labels, regime, file, label):
    kept = written_figures(monkeypatch, figures)
    level = int(regime == "natural")
    pruned.network(labels, [0.56, 0.62], natural=[0.8, 0.8], level=level, regime=regime)
    assert draw(pruned, study, tmp_path, reference) == [f"{file}.png"]
    place = legend(kept[0]).index(label)
    semantic, natural = bars(kept[0].axes[0])[place][0][[0, -1], 1]
    assert (semantic, natural) == pytest.approx((7, -11))


def test_iterations_is_figure_2(pruned, tmp_path, monkeypatch, reference):
    kept = written_figures(monkeypatch, figures)
    pruned.network(cut("pls"), natural=[0.94, 0.95], fgsm=[0.19, 0.25], level=2)
    drawn = draw(pruned, "iterations", tmp_path, reference)
    assert drawn == ["figure_2_cifar10_resnet_56_iterations.png"]
    semantic, _, fgsm = kept[0].axes
    assert semantic.get_title() == "Semantic" and fgsm.get_title().startswith("FGSM: r = +0.29, p")
    np.testing.assert_allclose(points(fgsm.lines[0]), [[92, 19], [92, 24]])
    np.testing.assert_allclose(points(fgsm.lines[1]), [[94, 19], [95, 25]])
    assert legend(kept[0]) == ["1", "2"]
    assert "iterations of pruning, 2 seeds" in kept[0].get_suptitle()


def test_single_element_is_figure_3(networks, tmp_path, monkeypatch, reference):
    kept = written_figures(monkeypatch, figures)
    networks.network(without("nothing"), fgsm=[0.2, 0.2], natural=[0.9, 0.9])
    networks.network(without("filters", "conv", 0), fgsm=[0.3, 0.3], natural=[0.875, 0.875])
    networks.network(without("filters", "conv", 1), fgsm=[0.3, 0.1], natural=[0.875, 0.875])
    networks.network(without("blocks", "block"), fgsm=[0.1, 0.1], natural=[0.9, 0.9])
    name = "figure_3_cifar10_resnet_56_single_element.png"
    assert draw(networks, "single_element", tmp_path, reference) == [name]
    filters, layers = kept[0].axes
    assert (filters.get_title(), layers.get_title()) == ("filters", "layers")
    (fgsm,) = [line for line in filters.lines if line.get_label() == "FGSM"]
    np.testing.assert_allclose(points(fgsm), list(enumerate([0, 0, 0, 75, 75, 75])))
    band = filters.collections[-1].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([band.min(), band.max()], [0, 75 + np.sqrt(2 * 25**2)])
    (fgsm,) = [line for line in layers.lines if line.get_label() == "FGSM"]
    np.testing.assert_allclose(points(fgsm)[:, 1], 0)


def test_transfer_is_table_4(pruned, tmp_path, monkeypatch, reference):
    kept = written_figures(monkeypatch, figures)
    pruned.transfer(UNPRUNED, [0.5, 0.7], made_for=("resnet_56", cut("pls")))
    assert draw(pruned, "transfer", tmp_path, reference) == ["table_4_cifar10_transfer.png"]
    axes = kept[0].axes[0]
    # A row per source, a column per target; unpruned before pruned.
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_allclose(shown, [[22, np.nan], [60, 21.5]])
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["ResNet-56", "ResNet-56 + pruning"]


@pytest.mark.parametrize(
    ("study", "labels", "regime", "level"),
    [
        ("structures", cut("pls", "blocks"), "natural", 1),
        ("iterations", cut("pls"), "natural", 2),
        ("criteria", cut("kl"), "natural", 1),
        ("single_element", without("nothing"), "natural", 0),
        ("adjustment", cut("pls", adjustment="scratch_1x"), "natural", 1),
        ("transfer", UNPRUNED, "natural", 0),
        ("defenses", UNPRUNED, "cutmix", 0),
    ],
)
def test_nothing_measured_nothing_drawn(
    networks, tmp_path, reference, study, labels, regime, level
):
    metric = f"test/{transfer_attack('resnet_56', networks.method(labels))}/loss"
    networks.add(labels, metric, [1], regime=regime, level=level)
    if study != "transfer":
        networks.network(labels, parameters=[100], regime=regime, level=level)
    assert draw(networks, study, tmp_path, reference) == []
