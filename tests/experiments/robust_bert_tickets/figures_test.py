"""Figures of "Robust Lottery Tickets": which are drawn, and what they show."""

import numpy as np
import pytest

from experiments.robust_bert_tickets import figures
from experiments.robust_bert_tickets.figures import (
    convergence_figures,
    regularization_figures,
    sparsity_figures,
)
from tests.analysis.readers import names, points, written_figures
from tests.experiments.robust_bert_tickets.maker import BertMaker, whole_run


@pytest.fixture
def maker(tmp_path):
    return BertMaker(tmp_path / "run")


@pytest.fixture
def kept(monkeypatch):
    return written_figures(monkeypatch, figures)


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def by_colour(axes):
    """Colour → the line's points."""
    return {line.get_color(): points(line) for line in axes.lines}


def test_regularization(maker, tmp_path, kept):
    found = names(regularization_figures(whole_run(maker).group(), tmp_path))
    assert found == ["figure_01_sst2_minilm_l6_2_layers_regularization.png"]
    assert legend(kept[0]) == ["λ = 0.1", "λ = 0.5", "FreeLB loss", "natural loss"]
    labels = [axes.get_ylabel() for axes in kept[0].axes]
    assert labels == ["R(m)", "masks at exactly 0 (%)", "masks at exactly 1 (%)"]
    ends = [sorted(points(line)[-1].tolist() for line in axes.lines) for axes in kept[0].axes]
    np.testing.assert_allclose(ends[0], [[100, 0.6], [100, 0.7], [100, 0.8]])
    np.testing.assert_allclose(ends[1], [[100, 14], [100, 28], [100, 34]])
    np.testing.assert_allclose(ends[2], [[100, 59], [100, 60], [100, 79]])
    styles = [line.get_linestyle() for line in kept[0].axes[0].lines]
    assert styles == ["-", "-", "--"]
    assert "one seed" in kept[0].get_suptitle()


def test_sparsity(maker, tmp_path, kept):
    found = names(sparsity_figures(whole_run(maker).group(), tmp_path))
    assert found == ["figure_02_sst2_minilm_l6_2_layers_sparsity.png"]
    # Robust tickets and fine-tuning have two seeds at 30% and 0%, the others one.
    assert legend(kept[0]) == [
        "fine-tuning (2 seeds)", "FreeLB (1 seed)", "LTH (1 seed)", "robust tickets (2 seeds)"
    ]  # fmt: skip
    clean, textfooler, characters = kept[0].axes
    assert textfooler.get_ylabel() == "Aua, TextFooler (%)"
    lines = by_colour(clean)
    np.testing.assert_allclose(lines["C3"], [[10, 86], [30, 89.5], [50, 78], [70, 74]])
    np.testing.assert_allclose(lines["C7"][:, 1], [91, 91])
    np.testing.assert_allclose(by_colour(textfooler)["C0"][:, 1], [50, 5, 50, 50])
    np.testing.assert_allclose(by_colour(characters)["C3"], [[30, 5]])


def test_bars_are_deviations_or_confidence_intervals(maker, tmp_path, kept):
    for level, clean, outcomes in (
        (10, [0.8, 0.9], ["ffss", "ffff"]), (20, [0.9], ["ffss"]), (30, [0.9], ["ffss"]),
    ):  # fmt: skip
        maker.network("robust", clean, {"characters": outcomes}, level=level)
    sparsity_figures(maker.group(), tmp_path)
    clean, characters = kept[0].axes
    ends = [
        [segment.round(1).tolist() for segment in axes.collections[0].get_segments()]
        for axes in (clean, characters)
    ]
    # 85 ± 7.1, and no bar of one seed.
    assert ends[0][0] == [[10, 77.9], [10, 92.1]]
    assert not any(ends[0][1:])
    # 75 ± 35.4, which ends at 100%, and Wilson's interval of 2 of 4.
    assert ends[1] == [[[10, 39.6], [10, 100]], *([[x, 15], [x, 85]] for x in (20, 30))]


def test_a_single_point_has_its_interval(maker, tmp_path, kept):
    maker.network("robust", [0.9], {"characters": ["ffss"]}, level=30)
    for level in (10, 20):
        maker.network("lth", [0.9], {"characters": ["ffss"]}, level=level)
    maker.network("fine_tune", [0.9], {"characters": ["ffss"]})
    sparsity_figures(maker.group(), tmp_path)
    clean, characters = kept[0].axes
    bars = {tuple(bar.get_color()[0]): bar.get_segments() for bar in characters.collections}
    (of_robust,) = [found for found in bars.values() if found[0][0, 0] == 30]
    np.testing.assert_allclose(of_robust[0][:, 1], [15.0, 85.0], atol=0.1)
    # Fine-tuning's interval is a band where there is one, and none of one clean accuracy.
    assert len(characters.patches) == 1 and not clean.patches


def test_four_panels_stand_in_two_columns(maker, tmp_path, kept):
    attacked = {attack: ["sf"] for attack in ("textfooler", "textbugger", "bert_attack")}
    for level in (10, 20):
        maker.network("robust", [0.9], attacked, level=level)
    sparsity_figures(maker.group(), tmp_path)
    grid = kept[0].axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == (2, 2)


def test_convergence(maker, tmp_path, kept):
    found = names(convergence_figures(whole_run(maker).group(), tmp_path))
    assert found == ["figure_04_sst2_minilm_l6_2_layers_convergence.png"]
    assert legend(kept[0]) == [
        "fine-tuning (1 seed)", "FreeLB (1 seed)", "LTH, 30% (1 seed)",
        "robust tickets, 30% (1 seed)",
    ]  # fmt: skip
    assert "without its Aua" not in kept[0].get_suptitle()
    clean, textfooler = kept[0].axes
    np.testing.assert_allclose(by_colour(clean)["C3"], [[0, 50], [100, 80], [200, 88], [300, 90]])
    np.testing.assert_allclose(by_colour(textfooler)["C0"], [[0, 0], [100, 20], [200, 40]])


def test_several_sparsities_have_a_line_each(maker, tmp_path, kept):
    for level in (10, 30):
        maker.network("robust", [0.9], level=level)
        maker.curve("robust", [0.5, level / 100], level=level)
    convergence_figures(maker.group(), tmp_path)
    assert legend(kept[0]) == ["robust tickets, 10% (1 seed)", "robust tickets, 30% (1 seed)"]
    assert "without its Aua" in kept[0].get_suptitle()
    assert [line.get_linestyle() for line in kept[0].axes[0].lines] == ["-", "--"]


def test_without_rows_nothing_is_drawn(maker, tmp_path):
    maker.network("fine_tune", [0.9], {"characters": ["sf"]})
    maker.network("robust", [0.9], {"characters": ["sf"]}, level=30)
    group = maker.group()
    for draw in (regularization_figures, sparsity_figures, convergence_figures):
        assert draw(group, tmp_path) == []
