"""Figures of "Boosting Ticket": which are drawn, under what name, and what they show."""

import numpy as np
import pytest

from experiments.boosting_tickets import figures
from experiments.boosting_tickets.figures import FIGURES
from experiments.boosting_tickets.results import STUDIES
from tests.analysis.readers import names, points, written_figures


def draw(maker, study, directory):
    """The names of the files that the study draws for its only group."""
    return names(FIGURES[study](maker.group(study), directory))


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_every_study_has_figures():
    assert list(FIGURES) == list(STUDIES)


def test_existence(trainings, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    for seed in (0, 1):
        curve = [0.1, 0.4 + 0.02 * seed, 0.8 + 0.02 * seed]
        trainings.train("boosting", 100, "natural", curve, seed=seed)
    trainings.train("winning", 100, "natural", [0.1, 0.3, 0.7])
    assert draw(trainings, "existence", tmp_path) == ["figure_01_cifar10_vgg_16_existence.png"]
    whole, close = kept[0].axes
    assert legend(whole) == ["boosting ticket", "winning ticket"]
    np.testing.assert_allclose(points(whole.lines[0]), [[0, 10], [1, 41], [2, 81]])
    np.testing.assert_allclose(points(whole.lines[1]), [[0, 10], [1, 30], [2, 70]])
    # Two seeds 2 points apart: sd = √2 points.
    band = whole.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([band.min(), band.max()], [10, 81 + 2**0.5])
    low, high = close.get_ylim()
    assert 41 < low < 70 and 81 < high < 100
    assert whole.get_ylabel() == "validation accuracy (%)" and whole.get_xlabel() == "epoch"
    assert "VGG-16 on CIFAR-10" in kept[0].get_suptitle()
    assert "Figure 1, mean ± sd of 2 seeds" in kept[0].get_suptitle()


def test_iterative_pruning_is_figure_9(trainings, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    for family in ("boosting", "winning", "random", "iterative", "dense"):
        trainings.train(family, 100, "natural", [0.1, 0.5])
    assert draw(trainings, "existence", tmp_path) == [
        "figure_01_cifar10_vgg_16_existence.png",
        "figure_09_cifar10_vgg_16_iterative_pruning.png",
    ]
    new_weights = "boosting's masks, new weights"
    assert [legend(figure.axes[0]) for figure in kept] == [
        ["boosting ticket", "winning ticket", new_weights, "dense (never pruned)"],
        ["boosting ticket", new_weights, "iteratively pruned ticket"],
    ]


def test_lengths_stand_beside_the_full_training(trainings, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    for percent in (20, 40, 100):
        curve = np.linspace(0.1, 0.9, percent // 20 + 1).tolist()
        trainings.train("boosting", percent, "natural", curve)
    trainings.train("winning", 20, "natural", [0.1, 0.6])
    assert draw(trainings, "epochs", tmp_path) == ["figure_02_cifar10_vgg_16_epochs.png"]
    every, close, fifth, two_fifths = kept[0].axes
    assert len(every.lines) == len(close.lines) == 4
    full = "boosting ticket, 100%"
    assert legend(fifth) == ["boosting ticket, 20%", full, "winning ticket, 20%"]
    assert legend(two_fifths) == ["boosting ticket, 40%", full]
    assert [line.get_linestyle() for line in fifth.lines] == ["-", "-", "--"]
    np.testing.assert_allclose(points(two_fifths.lines[0]), [[0, 10], [1, 50], [2, 90]])


def test_convergence_compares_robust_accuracy_with_the_baseline(trainings, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    for family, percent in (("fgsm_ticket", 20), ("fgsm_ticket", 100), ("dense", 100)):
        trainings.train(family, percent, "pgd", [0.1, 0.9], [0.1, 0.5])
    names_ = draw(trainings, "convergence", tmp_path)
    assert names_ == ["figure_08_cifar10_vgg_16_convergence.png"]
    every, _, fifth = kept[0].axes
    assert len(every.lines) == 3
    assert legend(fifth) == ["dense (never pruned), 100%", "FGSM ticket, 20%"]
    assert fifth.get_ylabel() == "robust (PGD-20) validation accuracy (%)"
    np.testing.assert_allclose(points(fifth.lines[1]), [[0, 10], [1, 50]])


def test_learning_rates(trainings, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    for rate, percent, accuracy in ((0.1, 20, 0.5), (0.05, 100, 0.7), (0.05, 20, 0.6)):
        tests = {"natural": accuracy}
        trainings.train("boosting", percent, "natural", [0.1], tests=tests, finding_rate=rate)
    assert draw(trainings, "learning_rate", tmp_path) == [
        "figure_03_cifar10_vgg_16_learning_rate.png"
    ]
    (axes,) = kept[0].axes
    assert legend(axes) == ["0.05", "0.1"]
    np.testing.assert_allclose(points(axes.lines[0]), [[20, 60], [100, 70]])


def test_pruning_ratios(trainings, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    for sparsity in (0.8, 0.5):
        curve = [0.1, sparsity, 0.3, 0.4, 0.5, 0.6]
        where = {"sparsity": sparsity, "pruned_to": sparsity}
        trainings.train("boosting", None, "natural", curve, **where)
    assert draw(trainings, "pruning_ratio", tmp_path) == [
        "figure_04_cifar10_vgg_16_pruning_ratio.png"
    ]
    (axes,) = kept[0].axes
    first, fifth = (container.lines[0] for container in axes.containers[:2])
    np.testing.assert_allclose(points(first), [[50, 50], [80, 80]])
    np.testing.assert_allclose(points(fifth), [[50, 60], [80, 60]])


def test_capacity_has_a_panel_by_width_and_one_by_depth(trainings, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    for depth, width in ((10, 1), (34, 1), (34, 10), (16, 10), (10, 10)):
        model = f"wide_resnet_{depth}_{width}"
        trainings.train("boosting", 100, "natural", [0.1, depth / 100], model=model)
    assert draw(trainings, "capacity", tmp_path) == ["figure_05_cifar10_capacity.png"]
    by_width, by_depth = kept[0].axes
    # As many networks have depth 10 as 34.
    assert by_width.get_title() == "depth 34" and legend(by_width) == ["1", "10"]
    assert by_depth.get_title() == "width 10" and legend(by_depth) == ["10", "16", "34"]
    np.testing.assert_allclose(points(by_depth.lines[1]), [[0, 10], [1, 16]])
    # A colour of both panels is one network's.
    widths, depths = ([line.get_color() for line in axes.lines] for axes in kept[0].axes)
    assert set(widths) & set(depths) == {"black"} and widths[1] == depths[2] == "black"


def test_adversarial_shows_natural_and_robust_accuracy(trainings, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    for family in ("fgsm_random", "natural_ticket"):
        trainings.train(family, 100, "pgd", [0.1, 0.8], [0.1, 0.4])
    assert draw(trainings, "adversarial", tmp_path) == ["figure_06_cifar10_vgg_16_adversarial.png"]
    natural, robust = kept[0].axes
    assert legend(natural) == ["natural ticket", "FGSM ticket's masks, new weights"]
    np.testing.assert_allclose(points(natural.lines[0]), [[0, 10], [1, 80]])
    np.testing.assert_allclose(points(robust.lines[0]), [[0, 10], [1, 40]])


def test_small_networks(trainings, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    for model in ("vgg_16", "lenet_conv"):
        where = {"model": model, "data_set": "mnist"}
        trainings.train("pgd_ticket", 100, "pgd", [0.1, 0.8], [0.1, 0.4], **where)
    assert draw(trainings, "mnist", tmp_path) == ["figure_07_mnist_small_networks.png"]
    titles = [axes.get_title() for axes in kept[0].axes]
    assert titles == ["LeNet (two convolutions)"] * 2 + ["VGG-16"] * 2


def test_natural_training_of_a_small_network_has_a_figure(trainings, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    where = {"model": "vgg_16", "data_set": "mnist"}
    trainings.train("dense", 100, "natural", [0.1, 0.5], **where)
    trainings.train("boosting", 100, "natural", [0.1, 0.9], **where)
    assert draw(trainings, "mnist", tmp_path) == ["mnist_vgg_16_natural_training.png"]
    assert legend(kept[0].axes[0]) == ["boosting ticket", "dense (never pruned)"]


def test_robust_accuracy_over_time(accelerated, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    assert draw(accelerated, "acceleration", tmp_path) == [
        "cifar10_vgg_16_robust_accuracy_over_time.png"
    ]
    axes, in_cpu_seconds = kept[0].axes
    goal = "Madry's last less one standard error"
    assert legend(axes) == ["Madry's", "Ours-40", "Ours-70", "FGSM training alone", goal]
    assert in_cpu_seconds.get_xlabel().endswith("(CPU s)")
    np.testing.assert_allclose(points(in_cpu_seconds.lines[5])[:, 0], [9, 31.5, 54])
    assert "2 seeds (thin) and their mean (thick)" in kept[0].get_suptitle()
    seed_0, seed_1, mean = axes.lines[3:6]
    np.testing.assert_allclose(points(seed_0), [[2, 10], [7, 30], [12, 40]])
    np.testing.assert_allclose(points(seed_1), [[4, 10], [14, 30], [24, 40]])
    np.testing.assert_allclose(points(mean), [[3, 10], [10.5, 30], [18, 40]])
    expected = 45 - (45 * 55 / 100) ** 0.5  # Of 100 images.
    np.testing.assert_allclose(points(axes.lines[-1])[:, 1], [expected, expected])


@pytest.mark.parametrize(
    ("study", "family", "percent", "regime", "labels"),
    [
        ("existence", "winning", 100, "natural", {}),
        ("epochs", "winning", 20, "natural", {}),
        ("learning_rate", "boosting", 20, "natural", {"finding_rate": 0.1}),
        ("pruning_ratio", "random", None, "natural", {"pruned_to": 0.5}),
        ("capacity", "boosting", 100, "natural", {}),
        ("adversarial", "natural_ticket", 100, "pgd", {}),
        ("convergence", "fgsm_ticket", 20, "pgd", {}),
        ("acceleration", "fgsm_ticket", 70, "pgd", {}),
    ],
)
def test_nothing_measured_nothing_drawn(
    trainings, tmp_path, study, family, percent, regime, labels
):
    where = {"model": "wide_resnet_10_1"} | labels
    trainings.add(family, percent, regime, f"train/{regime}/loss", 1.0, **where)
    assert draw(trainings, study, tmp_path) == []
