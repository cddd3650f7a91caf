"""The CSV of results."""

import csv
import io
import math
import struct

import numpy as np
import pytest

from tf_tickets.errors import UserError
from tf_tickets.runs.results import Result, from_csv, to_csv

HEADER = "experiment,data_set,model,method,regime,seed,level,sparsity,iteration,metric,value"
ROW = Result(
    experiment="sparse",
    data_set="mnist",
    model="lenet_300_100",
    method="original",
    regime="pgd",
    seed=3,
    level=12,
    sparsity=0.931,
    iteration=2000,
    metric="test/pgd/accuracy",
    value=0.5,
)
AWKWARD = [
    0.1 + 0.2,
    5e-324,
    2.2250738585072014e-308,
    1.7976931348623157e308,
    -0.0,
    math.inf,
    -math.inf,
    1 / 3,
    math.nextafter(1.0, 0.0),
    123456789.12345679,
]


def bits(number):
    return struct.pack("<d", number)


def test_the_text_is_this():
    assert to_csv([ROW]) == (
        f"{HEADER}\nsparse,mnist,lenet_300_100,original,pgd,3,12,0.931,2000,test/pgd/accuracy,0.5\n"
    )


def test_the_header_can_be_left_out():
    assert HEADER + "\n" + to_csv([ROW], header=False) == to_csv([ROW])


@pytest.mark.parametrize("number", AWKWARD)
def test_floats_keep_every_bit(number):
    (row,) = from_csv(to_csv([ROW._replace(value=number, sparsity=number)]), "results.csv")
    assert bits(row.value) == bits(row.sparsity) == bits(number)


def test_nan_stays_nan():
    (row,) = from_csv(to_csv([ROW._replace(value=math.nan)]), "results.csv")
    assert math.isnan(row.value)


@pytest.mark.parametrize("number", [np.float64(0.1 + 0.2), np.float32(0.1)])
def test_numpy_numbers_are_written_as_numbers(number):
    (row,) = from_csv(to_csv([ROW._replace(value=number, seed=np.int64(3))]), "results.csv")
    assert number.dtype.type(row.value) == number
    assert type(row.seed) is int and row.seed == 3


def test_many_rows_keep_order_and_types():
    rows = [ROW._replace(level=level, value=value) for level, value in enumerate(AWKWARD)]
    found = from_csv(to_csv(rows), "results.csv")
    assert found == rows
    kinds = [str, str, str, str, str, int, int, float, int, str, float, tuple]
    assert [type(field) for field in found[0]] == kinds


def test_text_fields_may_hold_commas_and_quotes():
    row = ROW._replace(method='a,"b"', metric="")
    assert from_csv(to_csv([row]), "results.csv") == [row]
    assert list(csv.reader(io.StringIO(to_csv([row]))))[1][3] == 'a,"b"'


LABELLED = [
    ROW._replace(labels=(("family", "winning"), ("percent", "40"))),
    ROW._replace(labels=(("percent", "100"), ("found_by", "a,b"))),
    ROW,
]


def test_labels_are_columns_and_empty_where_there_is_none():
    text = to_csv(LABELLED)
    header, first, second, third = text.splitlines()
    assert header == f"{HEADER},family,percent,found_by"
    assert first.endswith(",0.5,winning,40,") and third.endswith(",0.5,,,")
    assert second.endswith(',0.5,,100,"a,b"')
    assert from_csv(text, "results.csv") == LABELLED


def test_labels_columns_may_be_given():
    text = to_csv(LABELLED[:1], ["percent", "round"])
    assert text.splitlines()[0] == f"{HEADER},percent,round"
    assert from_csv(text, "results.csv") == [ROW._replace(labels=(("percent", "40"),))]


@pytest.mark.parametrize("names", ["", "family,family", "seed", "Family", "a b", "x" * 41])
def test_labels_of_no_or_equal_names_are_refused(names):
    with pytest.raises(UserError, match="^runs/results.csv: its further columns are "):
        from_csv(f"{HEADER},{names}\n", "runs/results.csv")


def test_more_labels_than_any_study_has_are_refused():
    names = ",".join(f"label_{number}" for number in range(51))
    with pytest.raises(UserError, match="further columns"):
        from_csv(f"{HEADER},{names}\n", "runs/results.csv")


def test_no_rows():
    assert to_csv([]) == HEADER + "\n"
    assert from_csv(HEADER + "\n", "results.csv") == []


@pytest.mark.parametrize(
    "header", ["", HEADER.replace(",value", ""), HEADER.replace("seed", "Seed")]
)
def test_another_header_is_refused(header):
    with pytest.raises(UserError, match="^runs/results.csv: .*header") as caught:
        from_csv(header + "\n", "runs/results.csv")
    assert str(caught.value).endswith(f", expected {HEADER}")


@pytest.mark.parametrize(
    "line, message",
    [
        ("sparse,mnist", "2 columns, expected 11"),
        (to_csv([ROW], header=False).strip() + ",1", "12 columns, expected 11"),
        (to_csv([ROW._replace(value="high")], header=False).strip(), "'high'"),
        (to_csv([ROW._replace(seed="3.5")], header=False).strip(), "'3.5'"),
        (to_csv([ROW._replace(sparsity="")], header=False).strip(), "''"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(line, message):
    text = to_csv([ROW, ROW]) + line + "\n" + to_csv([ROW], header=False)
    with pytest.raises(UserError) as caught:
        from_csv(text, "runs/results.csv")
    assert str(caught.value).startswith("runs/results.csv:4: ")
    assert message in str(caught.value) and "\n" not in str(caught.value)
