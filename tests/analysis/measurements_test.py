"""Results and references, read back."""

import pandas as pd
import pytest

from tf_tickets.analysis import measurements
from tf_tickets.errors import UserError


def test_load_takes_metrics_apart_and_leaves_others_out(maker):
    maker.add("test/pgd/accuracy", [0.25], density=0.25)
    maker.add("test/pgd_20/accuracy", [0.5])
    maker.add("train/pgd/loss", [1.0])
    maker.add("throughput", [12.0])
    maker.add("test/accuracy", [12.0])
    frame = measurements.load_results(maker.write())
    assert frame[["split", "attack", "quantity", "value"]].values.tolist() == [
        ["test", "pgd", "accuracy", 0.25],
        ["test", "pgd_20", "accuracy", 0.5],
    ]
    assert frame["density_percent"].tolist() == [25.0, 100.0]
    assert measurements.load_results(maker.path, ["train"])["value"].tolist() == [1.0]


def test_load_refuses_another_schema(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="results.csv: its header is"):
        measurements.load_results(path)


def test_load_reference_refuses_other_columns(tmp_path):
    path = tmp_path / "reference.csv"
    path.write_text("table,mean\n1,2\n")
    assert measurements.load_reference(path, ["table", "mean"])["mean"].tolist() == [2]
    with pytest.raises(UserError, match="reference.csv: its columns are"):
        measurements.load_reference(path, ["table", "value"])


def test_seeds_label(maker):
    maker.add("test/pgd/accuracy", [0.1])
    assert measurements.seeds_label(maker.frame()) == "one seed"
    maker.add("test/pgd/loss", [0.1, 0.2, 0.3])
    assert measurements.seeds_label(maker.frame()) == "mean±sd of 3 seeds"
    assert measurements.seeds_label(maker.frame(), " ± ") == "mean ± sd of 3 seeds"


@pytest.mark.parametrize(
    ("accuracies", "images"),
    [([0.5, 0.238], 500), ([0.1, 0.3], 10), ([2 / 3, 1 / 7], 21), ([0.1234], 5000), ([], 0)],
)
def test_the_images_behind_accuracies_are_their_common_denominator(accuracies, images):
    assert measurements.image_count(pd.Series(accuracies, dtype=float)) == images


def test_standard_error():
    # Of 24% of 500 images: √(0.24 · 0.76 / 500) = 1.91 points.
    error = measurements.standard_error(pd.Series([0.24]), 500)[0]
    assert error == pytest.approx(0.0191, abs=5e-5)


@pytest.mark.parametrize(
    ("attack", "label"),
    [("pgd_20", "PGD-20"), ("cw_linf", "margin loss (C&W)"), ("natural", "natural")],
)
def test_attack_label(attack, label):
    assert measurements.attack_label(attack) == label
