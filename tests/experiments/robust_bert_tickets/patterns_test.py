"""Where robust tickets keep their weights."""

import pytest

from experiments.robust_bert_tickets import patterns
from experiments.robust_bert_tickets.patterns import (
    MATRIX_LABELS,
    matrix_of,
    patterns_figures,
    patterns_table,
    surviving_shares,
)
from tests.analysis.readers import parse, written_figures
from tests.experiments.robust_bert_tickets.maker import BertMaker


@pytest.fixture
def maker(tmp_path):
    found = BertMaker(tmp_path / "run")
    for level in (30, 60):
        found.network("robust", [0.9, 0.9], level=level)
    return found


def test_the_names_are_those_of_the_encoders_weights():
    pytest.importorskip("keras_nlp", reason="needs the extra text")
    from tf_tickets.models.bert_backbone import backbone_class
    from tf_tickets.models.weights import read_weights

    backbone = backbone_class()(
        vocabulary_size=10, num_layers=2, num_heads=2, hidden_dim=4, intermediate_dim=8,
        max_sequence_length=6,
    )  # fmt: skip
    places = [matrix_of(path) for path in read_weights(backbone)]
    found = sorted(filter(None, places))
    expected = [(layer, matrix) for layer in (0, 1) for matrix in MATRIX_LABELS]
    assert found == sorted([(-1, "pooler"), *expected])


def test_shares_of_matrices_layers_and_pooler(maker):
    maker.ticket(30, {(0, "query"): 4, (1, "output"): 7, "pooler": 2})
    shares = surviving_shares(maker.group())
    found = shares.set_index(["layer", "matrix"])["value"]
    assert found[0, "query"] == 40 and found[1, "output"] == 70 and found[-1, "pooler"] == 20
    assert found[0, "all"] == pytest.approx(100 * 54 / 60)
    assert found[1, "all"] == pytest.approx(100 * 57 / 60)
    assert (found.drop([(0, "query"), (1, "output"), (-1, "pooler")]) >= 90).all()
    assert len(found) == 2 * 7 + 1 and set(shares["level"]) == {30}


def test_table(maker):
    maker.ticket(30, {(0, "key"): 4, "pooler": 5})
    maker.ticket(30, {(0, "key"): 10, "pooler": 5}, seed=1)
    maker.ticket(60, {(1, "value"): 1})
    text = patterns_table(maker.group())
    # 90 and 100 of layer 1; 51 of 60 of layer 2.
    assert parse(text) == [
        [
            ["sparsity", "layer 1", "layer 2", "pooler"],
            ["30%", "95.0±7.1", "100.0±0.0", "50.0±0.0"],
            ["60%", "100.0", "85.0", "100.0"],
        ]
    ]
    assert "2 seeds" in text


def test_figure(maker, tmp_path, monkeypatch):
    kept = written_figures(monkeypatch, patterns)
    maker.ticket(30, {(0, "key"): 4, (1, "output"): 7, "pooler": 5})
    maker.ticket(30, {(0, "key"): 6, (1, "output"): 7, "pooler": 6}, seed=1)
    maker.ticket(60, {(1, "value"): 1})
    (path,) = patterns_figures(maker.group(), tmp_path)
    assert path.name == "figure_03_sst2_minilm_l6_2_layers_patterns.png" and path.is_file()
    first, second = [axes for axes in kept[0].axes if axes.get_title()]
    assert first.get_title() == "30% sparsity (pooler keeps 55.0%)"
    assert second.get_title() == "60% sparsity (pooler keeps 100.0%)"
    labels = [label.get_text() for label in first.get_xticklabels()]
    assert labels == [
        "query", "key", "value", "attention output", "intermediate", "output"
    ]  # fmt: skip
    (image,) = first.images
    assert image.origin == "lower"
    assert image.get_array().tolist() == [[100, 50, 100, 100, 100, 100], [100] * 5 + [70]]
    written = {text.get_position(): text.get_text() for text in first.texts}
    assert written[(1, 0)] == "50" and written[(5, 1)] == "70" and len(written) == 12


def test_no_tickets_no_patterns(maker, tmp_path):
    assert patterns_table(maker.group()) == ""
    assert patterns_figures(maker.group(), tmp_path) == []
