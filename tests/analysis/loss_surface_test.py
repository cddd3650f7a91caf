"""Loss surfaces as rows, tables and pictures."""

import json

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.contour import QuadContourSet

from tf_tickets.analysis import loss_surface
from tf_tickets.evaluation.loss_surface import Surveyed
from tf_tickets.evaluation.weight_planes import Plane

WEIGHTS = {"logits/kernel": np.eye(2)}
RANDOM = Plane("random", WEIGHTS, WEIGHTS, {"logits/kernel": np.ones((2, 2))})
WAY = Plane("pca", WEIGHTS, WEIGHTS, WEIGHTS, np.array([[3.0, 1.0], [0.0, 0.0]]), (0.9, 0.05))


def surveyed(clean=lambda a, b: 1 + a**2 + b):
    first, second = np.array([-1.0, 0.0, 2.0]), np.array([0.0, 5.0])
    losses = clean(*np.meshgrid(first, second))
    return Surveyed(
        first, second, {"clean": losses, "attacked": 2 * losses}, {"clean": 0.5, "attacked": 0.75}
    )


def test_rows_have_each_loss_at_its_coordinates():
    rows = loss_surface.surface_rows(surveyed())
    assert len(rows) == 2 * 6
    clean = rows[rows["images"] == "clean"]
    assert clean["loss"].to_list() == (1 + clean["a"] ** 2 + clean["b"]).to_list()
    assert set(clean["a"]) == {-1, 0, 2} and set(clean["b"]) == {0, 5}
    assert set(rows[rows["images"] == "attacked"]["trained"]) == {0.75}


def test_files_and_table(tmp_path):
    surveys = {"run/one": surveyed(), "two": surveyed(lambda a, b: 0 * a + 4)}
    table = loss_surface.write_surfaces(surveys, {"run/one": RANDOM, "two": WAY}, tmp_path)
    rows = pd.read_csv(tmp_path / "loss_surface.csv")
    assert len(rows) == 24 and rows[rows["ticket"] == "two"]["loss"].isin([4, 8]).all()
    way = pd.read_csv(tmp_path / "trajectory.csv")
    assert way[["ticket", "snapshot", "a", "b"]].to_numpy().tolist() == [
        ["two", 0, 3, 1],
        ["two", 1, 0, 0],
    ]
    # The clean losses of the first: 1, 2, 5, 6, 7, 10.
    (line,) = [line for line in table.splitlines() if "run/one" in line and "clean" in line]
    assert line.replace("|", " ").split()[2:] == ["0.5", "1", "5.5", "10"]
    for name in ("run_one", "two"):
        assert matplotlib.image.imread(tmp_path / f"loss_surface_{name}.png").std() > 0.05


@pytest.mark.parametrize("value", [np.inf, np.nan, 0.0, 1e9])
def test_losses_beyond_the_scale_are_drawn_at_its_end(tmp_path, value):
    found = surveyed()
    found.losses["clean"][0, 0] = value
    path = loss_surface.draw_loss_surface(found, RANDOM, "", tmp_path / "surface.png")
    assert matplotlib.image.imread(path).std() > 0.05


def test_a_description_is_json():
    found = json.loads(json.dumps(loss_surface.describe(WAY, surveyed())))
    assert found["variance_shares"] == [0.9, 0.05] and found["trajectory"] == [[3, 1], [0, 0]]
    assert found["sides"] == {"a": [-1, 2], "b": [0, 5]}
    # diag(1, 1) and the matrix of ones: 2 / (√2 · 2).
    random = loss_surface.describe(RANDOM, surveyed())
    assert random["cosine_of_directions"] == pytest.approx(2**-0.5)


def test_surfaces_of_one_command_share_scale_and_contours(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(loss_surface, "write_png", lambda figure, path: drawn.append(figure))
    surveys = {"low": surveyed(), "high": surveyed(lambda a, b: 20 + a + b)}
    loss_surface.write_surfaces(surveys, dict.fromkeys(surveys, RANDOM), tmp_path)
    # The lowest is the first's clean loss, the highest twice 20 + 2 + 5 of the second's.
    bars = [figure.axes[-1].get_ylim() for figure in drawn]
    assert bars[0] == bars[1] == pytest.approx((1, 54))
    levels = [
        set(found.levels)
        for figure in drawn
        for axes in figure.axes[:2]
        for found in axes.collections
        if isinstance(found, QuadContourSet) and not found.filled
    ]
    assert len(levels) == 4 and all(of_panel == levels[0] for of_panel in levels)


def test_neighbouring_contours_have_labels_of_their_own():
    assert loss_surface.distinct_labels([2.31, 2.3104, 2.4]) == ["2.31", "2.3104", "2.4"]
    assert loss_surface.distinct_labels([1.0, 2.0]) == ["1", "2"]
