"""Figures: which are drawn, under what name, and what they show."""

import numpy as np
import pandas as pd
import pytest

from experiments.sparse_robust_networks import figures
from tests.analysis.readers import names, points, written_figures


def test_draws_what_there_are_results_for(training, reference, tmp_path):
    frame = training.frame()
    folder = tmp_path / "figures"
    assert names(figures.draw_figures(frame, reference, "mnist", folder)) == [
        "mnist_overview.png",
        "figure_02_mnist_pgd_test_accuracy.png",
        "figure_05_mnist_pgd_early_stopping.png",
        "figure_06_mnist_pgd_validation_loss.png",
    ]
    assert figures.draw_figures(frame, reference, "fashion_mnist", folder) == []


def test_draws_one_evaluation_of_one_seed(maker, reference, tmp_path):
    maker.add("validation/natural/loss", [0.5], regime="natural", data_set="fashion_mnist")
    maker.add("validation/natural/accuracy", [0.8], regime="natural", data_set="fashion_mnist")
    maker.add("test/natural/accuracy", [0.8], regime="natural", data_set="fashion_mnist")
    assert names(figures.draw_figures(maker.frame(), reference, "fashion_mnist", tmp_path)) == [
        "fashion_mnist_overview.png",
        "fashion_mnist_natural_test_accuracy.png",
        "fashion_mnist_natural_early_stopping.png",
        "fashion_mnist_natural_validation_loss.png",
    ]


def test_no_results_no_figures(maker, reference, tmp_path):
    assert figures.draw_figures(maker.frame(), reference, "mnist", tmp_path) == []


def test_accuracy_curves_are_means_over_seeds_in_percent(training, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    figures.accuracy_curves(training.frame(), "mnist", tmp_path)
    original, against_random = kept[0].axes
    assert original.get_title() == "original"
    assert against_random.get_title() == "original (solid) and random (dashed)"
    assert [line.get_linestyle() for line in against_random.lines] == ["-", "-", "--", "--"]
    assert [text.get_text() for text in original.get_legend().get_texts()] == ["100.0", "51.3"]
    x, y = original.lines[0].get_data()
    np.testing.assert_array_equal(x, [0, 100, 200, 300])
    np.testing.assert_allclose(y, [11, 61, 71, 81])
    # Two seeds 2 points apart: sd = √2 points.
    band = original.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([band.min(), band.max()], [11 - 2**0.5, 81 + 2**0.5])


def test_validation_loss_is_in_nats(training, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    figures.validation_loss_curves(training.frame(), "mnist", tmp_path)
    np.testing.assert_allclose(kept[0].axes[0].lines[0].get_ydata(), [2.3, 0.5, 0.8, 0.9])


def test_early_stopping_runs_from_dense_to_sparse(training, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    figures.early_stopping_curves(training.frame(), "mnist", tmp_path)
    iteration, adversarial, natural = kept[0].axes
    left, right = iteration.get_xlim()
    assert left > 100 > 51.3 > right
    np.testing.assert_allclose(points(iteration.lines[0]), [[51.3, 100], [100, 100]])
    np.testing.assert_allclose(points(adversarial.lines[0])[:, 1], [61, 61])
    np.testing.assert_allclose(points(natural.lines[0])[:, 1], [61, 61])


def test_overview_shows_the_papers_numbers_at_our_densities(
    training, reference, tmp_path, monkeypatch
):
    kept = written_figures(monkeypatch, figures)
    figures.overview(training.frame(), reference, "mnist", tmp_path)
    natural, fgsm, pgd = kept[0].axes
    (crosses,) = (line for line in pgd.lines if line.get_marker() == "x")
    np.testing.assert_allclose(crosses.get_xydata(), [[100, 45.32], [51.3, 60.14]])
    assert len(fgsm.lines) == 0


def test_a_density_has_one_colour_in_all_panels(maker, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    for level in range(15):
        for method in ("original", "random"):
            at = {"level": level, "density": 0.8**level, "method": method}
            maker.add("test/pgd/accuracy", [0.5], **at)
    figures.accuracy_curves(maker.frame(), "mnist", tmp_path)
    panels = [
        {line.get_label(): line.get_color() for line in axes.lines if line.get_label()[0] != "_"}
        for axes in kept[0].axes
    ]
    assert len(panels[0]) == 7 and len(panels[1]) == 4
    assert panels[1].items() <= panels[0].items()


def test_trainings_that_were_cut_off_are_counted(training, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    # Its loss still falls at the end; those of the fixture's eight trainings rise before.
    training.add("validation/pgd/loss", [2.0, 2.0], method="dense", iteration=0)
    training.add("validation/pgd/loss", [1.0, 0.9], method="dense", iteration=300)
    figures.early_stopping_curves(training.frame(), "mnist", tmp_path)
    iteration = kept[0].axes[0]
    assert iteration.get_title().startswith("2 of 10 trainings are cut off")
    assert iteration.lines[-1].get_ydata()[0] == 300


def test_the_margin_loss_is_drawn_where_it_was_measured(training, reference, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    training.add("test/cw_linf/accuracy", [0.4, 0.5], iteration=300)
    figures.overview(training.frame(), reference, "mnist", tmp_path)
    assert [axes.get_title() for axes in kept[0].axes][-1].endswith("under margin loss (C&W)")
    np.testing.assert_allclose(points(kept[0].axes[-1].lines[0]), [[100, 45]])


def test_levels_of_the_paper_are_drawn_first_then_far_apart():
    n, kept = np.array([235200, 30000, 1000]), []
    for _ in range(20):
        kept.append(100 * n.sum() / 266200)
        n = n - np.round(n * [0.2, 0.2, 0.1]).astype(int)
    densities = pd.Series(kept)
    assert figures._spread_levels(densities, at_most=6) == [0, 3, 8, 11, 15, 18]
    assert figures._spread_levels(densities, at_most=7) == [0, 3, 5, 8, 11, 15, 18]
    assert figures._spread_levels(densities[:3], at_most=7) == [0, 1, 2]
    assert figures._spread_levels(pd.Series([90.0, 70.0, 45.0, 30.0, 20.0]), 3) == [0, 2, 4]


@pytest.mark.parametrize(
    ("kind", "data_set", "regime", "number"),
    [
        ("test_accuracy", "mnist", "fgsm", 1),
        ("test_accuracy", "fashion_mnist", "pgd", 8),
        ("early_stopping", "mnist", "pgd", 5),
        ("early_stopping", "fashion_mnist", "fgsm", 9),
        ("validation_loss", "mnist", "pgd", 6),
        ("validation_loss", "fashion_mnist", "pgd", 12),
        ("initial_weights", "mnist", "natural", 13),
        ("initial_weights", "fashion_mnist", "natural", None),
        ("test_accuracy", "mnist", "natural", None),
    ],
)
def test_paper_figure_number(kind, data_set, regime, number):
    assert figures.paper_figure_number(kind, data_set, regime) == number


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_area_under_a_weight_density_is_one(count):
    weights = np.random.default_rng(0).normal(0, 0.1, count)
    heights, edges = figures.weight_density(weights)
    assert np.sum(heights * np.diff(edges)) == pytest.approx(1)
    assert edges[0] <= weights.min() and weights.max() <= edges[-1]


def test_initial_weights_are_those_that_the_mask_keeps(tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, figures)
    kernel = np.linspace(-1, 1, 100).reshape(10, 10)
    weights = {"hidden_1": kernel, "hidden_2": 2 * kernel, "output": 3 * kernel}
    everything = {layer: np.ones((10, 10), bool) for layer in weights}
    positive = {layer: array > 0 for layer, array in weights.items()}
    positive["output"] = np.zeros((10, 10), bool)
    tickets = [(1.0, everything), (1 / 3, positive)]
    paths = figures.initial_weight_distributions(weights, tickets, "mnist", "fgsm", 3, tmp_path)
    assert names(paths) == ["figure_14_mnist_fgsm_initial_weights.png"]
    dense, sparse = kept[0].axes
    assert [len(axes.patches) for axes in (dense, sparse)] == [3, 2]
    assert sparse.get_title() == "$P_m$ = 33.3%"
    # Each panel counts its own weights.
    counts = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in kept[0].axes]
    assert counts[0] != counts[1] and len(counts[1]) == 2
    assert "seed 3" in kept[0].get_suptitle()
    hidden_1, hidden_2 = (patch.get_data() for patch in sparse.patches)
    assert hidden_1.edges[0] > 0 and hidden_2.edges[0] > 0
    assert hidden_1.edges[-1] == 1 and hidden_2.edges[-1] == 2
    colours = [patch.get_edgecolor()[:3] for patch in dense.patches]
    # Blue, orange, green.
    assert [int(np.argmax(colour)) for colour in colours] == [2, 0, 1]


def test_a_mask_of_another_shape_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"output: mask of shape \(3,\), kernel of \(2, 2\)"):
        figures.initial_weight_distributions(
            {"output": np.ones((2, 2))},
            [(1.0, {"output": np.ones(3, bool)})],
            "mnist",
            "pgd",
            0,
            tmp_path,
        )
