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


ROW = "a,mnist,lenet,m,pgd,0,0,0.0,1,test/pgd/accuracy,0.5,dense,"
HEADER = "experiment,data_set,model,method,regime,seed,level,sparsity,iteration,metric,value"


def labelled(tmp_path, *lines, columns="family,percent"):
    path = tmp_path / "results.csv"
    path.write_text(f"{HEADER},{columns}\n" + "".join(f"{line}\n" for line in lines))
    return path


def test_labels_are_columns(tmp_path):
    first = f"{ROW}40"
    second = "a,mnist,lenet,m,pgd,0,0,0.0,2,test/pgd/accuracy,0.25,,"
    path = labelled(tmp_path, first, second)
    frame = measurements.load_results(path, labels={"family": str, "percent": float, "rate": float})
    assert frame["family"].tolist() == ["dense", None]
    assert frame["percent"].iloc[0] == 40.0 and frame["percent"].isna().tolist() == [False, True]
    assert frame["rate"].isna().all()
    # All cells empty is not the same as no column.
    assert len(measurements.load_results(labelled(tmp_path, second), labels={"family": str})) == 1


@pytest.mark.parametrize(
    ("lines", "labels", "message"),
    [
        (
            ["a,mnist,lenet,m,pgd,0,0,0.0,1,test/pgd/accuracy,0.5,dense,4%"],
            "percent",
            ":2: percent",
        ),
        (
            ["a,mnist,lenet,m,pgd,0,0,0.0,1,test/pgd/accuracy,0.5,dense,4"],
            "rate",
            ": has no column",
        ),
        ([f"{ROW}4", f"{ROW}4"], "percent", ":3: measured already in line 2"),
    ],
)
def test_labels_that_cannot_be_read_are_one_line(tmp_path, lines, labels, message):
    path = labelled(tmp_path, *lines)
    with pytest.raises(UserError) as caught:
        measurements.load_results(path, labels={labels: float})
    assert str(caught.value).startswith(f"{path}{message}") and "\n" not in str(caught.value)


def test_what_measures_nothing_is_left_out(tmp_path):
    lines = [
        f"a,mnist,lenet,m,pgd,0,0,0.0,{at},test/pgd/loss,{at / 2 or 'nan'},d,1" for at in (0, 1)
    ]
    assert measurements.load_results(labelled(tmp_path, *lines))["value"].tolist() == [0.5]


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
