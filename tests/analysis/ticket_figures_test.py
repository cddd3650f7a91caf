"""Pictures of tickets, by what is drawn in them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.analysis.readers import names, written_figures
from tests.analysis.tickets import random_ticket, ticket
from tf_tickets.analysis import ticket_figures
from tf_tickets.analysis.ticket_comparison import compare_tickets
from tf_tickets.analysis.ticket_inspection import inspect
from tf_tickets.masking.ticket import Ticket


def of_images(found, image_shape):
    config = {"image_shape": list(image_shape)}
    return Ticket(found.masks, dataclasses.replace(found.provenance, model_config=config))


def dense(seed, density):
    """hidden_1 reads images of 4x3 pixels with two channels, logits what it makes."""
    random = np.random.default_rng(seed)
    masks = {"hidden_1__kernel": (24, 5), "logits__kernel": (5, 24)}
    found = {name: random.random(shape) < density for name, shape in masks.items()}
    return of_images(ticket(**found), (4, 3, 2))


def inspected(*tickets):
    return [inspect(Path("x.npz"), found, f"number {i}") for i, found in enumerate(tickets)]


def widths(axes):
    return [[bar.get_width() for bar in bars] for bars in axes.containers]


def test_files_of_two_tickets(tmp_path):
    one, other = dense(0, 0.5), dense(1, 0.2)
    comparison = compare_tickets(one, other)
    paths = ticket_figures.draw_inspection(inspected(one, other), comparison, tmp_path)
    found = sorted(path.name for path in paths)
    assert found == [
        "dead_units.png", "densities.png", "masks_1.png", "masks_2.png", "overlap.png",
        "pixels.png",
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == found
    bars = [path for path in paths if path.name in ("densities.png", "overlap.png")]
    assert names(bars) == ["densities.png", "overlap.png"]


def test_bars_are_as_long_as_shares_are_large(monkeypatch, tmp_path):
    figures = written_figures(monkeypatch, ticket_figures)
    a = np.zeros((4, 5))
    a[0, :2] = 1  # Inputs 1 to 3 are not read, outputs 2 to 4 are dead.
    one, other = ticket(a__kernel=a, b=[1, 0]), ticket(a__kernel=np.ones((4, 5)), b=[1, 1])
    inspections = inspected(one, other)
    ticket_figures.draw_densities(inspections, tmp_path / "a.png")
    (axes,) = figures[-1].axes
    assert widths(axes) == [pytest.approx([10, 50]), pytest.approx([100, 100])]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.lines[0].get_xdata()[0] == pytest.approx(100 * 3 / 22)

    ticket_figures.draw_dead_units(inspections, tmp_path / "a.png")
    first, second = figures[-1].axes
    assert widths(first) == [pytest.approx([60]), pytest.approx([75])]  # b has no known units.
    assert widths(second) == [[0], [0]]
    assert first.get_xlim() == second.get_xlim() and first.get_xlim()[1] > 75

    ticket_figures.draw_overlap(compare_tickets(one, other), tmp_path / "a.png")
    (axes,) = figures[-1].axes
    assert widths(axes) == [pytest.approx([10, 50]), pytest.approx([10, 50])]


def test_masks_are_shown_inputs_to_the_right(monkeypatch, tmp_path):
    figures = written_figures(monkeypatch, ticket_figures)
    monkeypatch.setattr(ticket_figures, "_ROWS", 1)
    a = np.zeros((4, 5), bool)
    a[3, 0] = True
    convolutions = random_ticket(0, shapes=((1, 2, 2, 3),) * 3)
    found = Ticket({"a/kernel": a, **convolutions.masks}, convolutions.provenance)
    paths = ticket_figures.draw_masks(*inspected(found), tmp_path, "masks")
    assert [path.name for path in paths] == ["masks.png", "masks_part_2.png"]
    panels = [axes for figure in figures for axes in figure.axes if axes.get_title()]
    assert [axes.get_title().split(":")[0] for axes in panels] == [
        "a", "stage_1/conv_1", "stage_1/conv_2", "stage_1/conv_3",
    ]  # fmt: skip
    pictures = [axes.images[0] for axes in panels]
    assert np.argwhere(pictures[0].get_array()).tolist() == [[0, 3]]
    assert tuple(pictures[0].get_extent()) == (0, 4, 5, 0)
    mask = convolutions.masks["stage_1/conv_1/kernel"]
    np.testing.assert_allclose(pictures[1].get_array(), 100 * mask.mean(axis=(0, 1)).T)


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (4, 4), (10, 9)])
def test_downsampling_takes_means_of_blocks(shape):
    matrix = np.random.default_rng(0).random(shape)
    cells = [min(4, length) for length in shape]
    blocks = [
        [slice(k * length // count, (k + 1) * length // count) for k in range(count)]
        for length, count in zip(shape, cells)
    ]
    expected = [[matrix[rows, columns].mean() for columns in blocks[1]] for rows in blocks[0]]
    np.testing.assert_allclose(ticket_figures.downsampled(matrix, 4), expected)


def test_pixels_are_counted_in_the_order_of_flattening():
    mask = np.zeros((24, 5), bool)
    flat = np.arange(24).reshape(4, 3, 2)
    mask[flat[1, 2, 0], :3] = mask[flat[1, 2, 1], 2:4] = mask[flat[3, 0, 1], 0] = True
    reads = ticket_figures.pixel_reads(of_images(ticket(hidden_1__kernel=mask), (4, 3, 2)))
    expected = np.zeros((4, 3))
    expected[1, 2], expected[3, 0] = 4, 1  # Unit 2 reads both channels of the first pixel.
    np.testing.assert_array_equal(reads, expected)


def test_other_networks_show_no_pixels():
    hidden = np.ones((24, 5))
    assert ticket_figures.pixel_reads(ticket(hidden_1__kernel=hidden)) is None
    assert ticket_figures.pixel_reads(of_images(ticket(a=hidden), (5, 5, 1))) is None
    convolutional = ticket(a=np.ones((1, 1, 2, 2)), logits__kernel=hidden)
    assert ticket_figures.pixel_reads(of_images(convolutional, (4, 3, 2))) is None
