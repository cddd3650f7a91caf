"""Completely pruned kernels, by hand and against random masks."""

import itertools
import math

import matplotlib.image
import numpy as np
import pytest

from tests.analysis.tickets import random_ticket, save, ticket
from tf_tickets.analysis import kernels
from tf_tickets.analysis.measurements import select
from tf_tickets.analysis.saved_tickets import tickets_in


def by_hand():
    """2x2 kernels from two channels to three, of which three are empty, and a 1x1 convolution."""
    wide = np.zeros((2, 2, 2, 3))
    wide[0, 1, 0, 0] = wide[1, 1, 1, 2] = wide[:, :, 0, 2] = 1
    return ticket(
        stage_1__conv__kernel=wide,
        stage_1__shortcut__kernel=np.array([1, 0, 0, 1, 1, 1]).reshape(1, 1, 2, 3),
        logits__kernel=np.zeros((4, 4)),
    )


def test_counts_by_hand():
    found = by_hand()
    empty = kernels.pruned_kernels(found.masks["stage_1/conv/kernel"])
    assert empty.astype(int).tolist() == [[0, 1, 0], [1, 1, 0]]  # [in, out]
    rows = kernels.kernel_counts(found).set_index("layer")
    assert list(rows.index) == [
        "all", "larger than 1x1", "stage_1/conv/kernel", "stage_1/shortcut/kernel",
    ]  # fmt: skip
    assert rows["kernels"].to_list() == [12, 6, 6, 6]
    assert rows["pruned"].to_list() == [5, 3, 3, 2]
    assert rows["kernel_size"].to_list() == ["", "", "2x2", "1x1"]
    assert rows["density"].to_list() == pytest.approx([10 / 30, 6 / 24, 6 / 24, 4 / 6])
    # Four given weights of 24 are none of the 6 that remain: C(20, 6) / C(24, 6).
    expected = 6 * math.comb(20, 6) / math.comb(24, 6)
    assert rows["random"].to_list() == pytest.approx([expected + 2, expected, expected, 2])


def test_all_masks_of_a_layer_have_the_expected_number_on_average():
    shape, kept = (1, 2, 2, 2), 3
    counts = []
    for places in itertools.combinations(range(8), kept):
        mask = np.zeros(8, bool)
        mask[list(places)] = True
        counts.append(kernels.pruned_kernels(mask.reshape(shape)).sum())
    assert kernels.expected_pruned_kernels(mask.reshape(shape)) == pytest.approx(np.mean(counts))


@pytest.mark.parametrize("density,expected", [(0, 32), (1, 0)])
def test_nothing_and_everything(density, expected):
    mask = np.full((3, 3, 4, 8), density, bool)
    assert kernels.expected_pruned_kernels(mask) == pytest.approx(expected)
    assert kernels.pruned_kernels(mask).sum() == expected


def test_random_masks_of_a_large_layer():
    mask = np.random.default_rng(0).random((3, 3, 64, 64)) < 0.2
    found, expected = kernels.pruned_kernels(mask).sum(), kernels.expected_pruned_kernels(mask)
    assert expected == pytest.approx(4096 * 0.8**9, rel=0.05)
    assert found == pytest.approx(expected, rel=0.1)


def test_dense_layers_have_no_kernels():
    assert kernels.kernel_counts(ticket(logits__kernel=np.zeros((4, 4)))).empty


@pytest.mark.parametrize(
    "path,stage",
    [
        ("stage_2/block_1/conv_1/kernel", "stage_2"),
        ("group_1/conv/kernel", "group_1"),
        ("conv2_block1_1_conv/kernel", "conv2"),
        ("conv1_conv/kernel", "conv1_conv"),
        ("stem/conv/kernel", "stem/conv"),
        ("conv_1/kernel", "conv_1"),
    ],
)
def test_stages(path, stage):
    assert kernels.stage_of(path) == stage


@pytest.fixture
def run(tmp_path):
    for method, level in itertools.product(("std", "at"), (0, 1, 2)):
        found = random_ticket(2 * level + (method == "at"), 0.3**level)
        save(tmp_path, f"mnist/natural/{method}/seed_0", level, found)
    return tickets_in(tmp_path)


def test_a_run_by_search_and_level(run, tmp_path):
    rows = kernels.kernel_curves(run)
    row = select(rows, search="at", level=2, layer="all").iloc[0]
    found = random_ticket(5, 0.09)
    empty = [int((~mask.any((0, 1))).sum()) for mask in found.masks.values()]
    assert row["pruned"] == sum(empty) and row["kernels"] == 64
    assert row["sparsity"] == pytest.approx(found.sparsity)
    path = kernels.draw_kernel_curves(rows, "ResNet", tmp_path / "curves.png")
    assert matplotlib.image.imread(path).std() > 0.05


def test_the_map_has_a_colour_for_each_kind(tmp_path):
    path = kernels.draw_kernel_map(by_hand(), "by hand", tmp_path / "map.png")
    colours = {
        tuple(c) for c in np.round(255 * matplotlib.image.imread(path)[..., :3]).reshape(-1, 3)
    }
    for colour in kernels._COLOURS:
        assert tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) in colours


def test_where_a_map_is_bright():
    """[out, in] of each convolution, then a gap, the shorter ones filled up below."""
    shown = []

    class Axes:
        def __getattr__(self, _):
            return lambda *arguments, **_: shown.append(arguments[0]) if arguments else None

        class yaxis:
            set_major_locator = staticmethod(lambda _: None)

    maps = {"s/a/kernel": np.array([[True, False]]), "s/b/kernel": np.array([[False], [True]])}
    kernels._draw_stage(Axes(), "s", maps)
    assert shown[0].tolist() == [[1, 0, 2, 0], [2, 2, 2, 1]]
