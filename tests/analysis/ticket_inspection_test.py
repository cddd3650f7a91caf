"""What is in a ticket, against counts by hand, real layers and the folders of runs."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tf_keras as keras

from tests.analysis.tickets import ticket
from tf_tickets.analysis.ticket_inspection import (
    as_matrix,
    dead_units,
    in_order,
    inspect,
    inspect_layers,
)
from tf_tickets.analysis.ticket_inspection_text import inspection_text
from tf_tickets.masking.ticket import Ticket, arrays_sha256
from tf_tickets.runs.files import save_arrays
from tf_tickets.runs.run_directory import Cell, RunDirectory

# [in, out]: outputs 1 and 2 and input 1 have no weights.
HIDDEN = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
# [height, width, in, out]: filter 2 alone reads, and only channel 0.
CONV = np.zeros((1, 2, 2, 3), bool)
CONV[0, 1, 0, 2] = True
NETWORK = ticket(hidden_10__kernel=HIDDEN, hidden_9__kernel=CONV, hidden_9__scale=[1, 0])


class Kind(NamedTuple):
    """A kind of layer: its units are `read` axes of an example, and the last `made` of outputs."""

    path: str
    layer: keras.layers.Layer
    example: tuple
    read: tuple
    made: int


_ATTENTION = "transformer_layer_0/self_attention_layer"
KINDS = [
    Kind("hidden/kernel", keras.layers.Dense(5, use_bias=False), (4,), (0,), 1),
    Kind(
        "stem/conv/kernel",
        keras.layers.Conv2D(3, (2, 3), padding="same", use_bias=False),
        (4, 4, 2),
        (2,),
        1,
    ),
    Kind(
        "block/conv/depthwise_kernel",
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", use_bias=False),
        (4, 4, 3),
        (2,),
        1,
    ),
    *(
        Kind(
            f"{_ATTENTION}/{name}/kernel",
            keras.layers.EinsumDense("abc,cde->abde", (None, 3, 2)),
            (2, 4),
            (1,),
            2,
        )
        for name in ("query", "key", "value")
    ),
    Kind(
        f"{_ATTENTION}/attention_output/kernel",
        keras.layers.EinsumDense("abcd,cde->abe", (None, 4)),
        (2, 3, 2),
        (1, 2),
        1,
    ),
]


def masked_layer(kind, density, random):
    """A mask, and the layer as a function with positive weights under it."""
    if not kind.layer.built:
        kind.layer.build((None, *kind.example))
    (kernel,) = kind.layer.weights
    mask = random.random(kernel.shape) < density
    kernel.assign(mask * random.uniform(0.5, 1, mask.shape))
    return mask, lambda images: kind.layer(images).numpy()


def alone(example, axes, unit):
    """The example with nothing but one unit."""
    places = [slice(None)] * example.ndim
    for axis, index in zip(axes, unit):
        places[axis + 1] = index
    only = np.zeros_like(example)
    only[tuple(places)] = example[tuple(places)]
    return only


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.path)
def test_units_are_dead_where_the_layer_is(kind):
    """With positive weights and inputs nothing cancels: what is connected is heard."""
    random, found = np.random.default_rng(0), []
    for density in (0.02, 0.1, 0.3):
        mask, layer = masked_layer(kind, density, random)
        example = random.uniform(0.5, 1, (1, *kind.example))
        dead = dead_units(kind.path, mask)
        made = layer(example)
        silent = (made == 0).all(axis=tuple(range(made.ndim - kind.made))).ravel()
        np.testing.assert_array_equal(dead["outputs"].ravel(), silent)
        units = np.ndindex(*(kind.example[axis] for axis in kind.read))
        unread = [not layer(alone(example, kind.read, unit)).any() for unit in units]
        np.testing.assert_array_equal(dead["inputs"].ravel(), unread)
        found += [*silent, *unread]
    assert 0 < sum(found) < len(found)
    assert ("heads" in dead) == kind.path.startswith(_ATTENTION)


def test_heads():
    into = np.zeros((4, 3, 2), bool)  # [hidden, heads, size]
    into[2, 1, 0] = True
    dead = dead_units(f"{_ATTENTION}/value/kernel", into)
    assert dead["heads"].tolist() == [True, False, True]
    out = np.zeros((3, 2, 4), bool)  # [heads, size, hidden]
    out[2, :, 3] = out[0, 1, 0] = True
    dead = dead_units(f"{_ATTENTION}/attention_output/kernel", out)
    assert dead["heads"].tolist() == [False, True, False]
    assert dead["inputs"].tolist() == [[True, False], [True, True], [False, False]]
    assert dead["outputs"].tolist() == [False, True, True, False]


@pytest.mark.parametrize("path,shape", [("conv/kernel", (3, 4, 5)), ("norm/scale", (3,))])
def test_weights_of_unknown_axes_have_no_units(path, shape):
    assert dead_units(path, np.zeros(shape, bool)) == {}
    assert as_matrix(path, np.ones(shape, bool)).size == np.prod(shape)


def test_layers_by_hand():
    rows = inspect_layers(NETWORK).set_index("layer")
    assert list(rows.index) == ["all", "hidden_9/kernel", "hidden_9/scale", "hidden_10/kernel"]
    assert rows["shape"].to_list() == ["", "1x2x2x3", "2", "3x4"]
    assert rows["weights"].to_list() == [26, 12, 2, 12]
    assert rows["remaining"].to_list() == [5, 1, 1, 3]
    assert rows["density"].to_list() == pytest.approx([5 / 26, 1 / 12, 0.5, 0.25])
    assert rows["sparsity"].to_list() == pytest.approx([21 / 26, 11 / 12, 0.5, 0.75])
    units = rows[["outputs", "dead_outputs", "inputs", "unread_inputs"]]
    assert units.loc["hidden_9/kernel"].to_list() == [3, 2, 2, 1]
    assert units.loc["hidden_10/kernel"].to_list() == [4, 2, 3, 1]
    assert units.loc["all"].to_list() == [7, 4, 5, 2]
    assert units.loc["hidden_9/scale"].isna().all()
    assert rows[["heads", "nonzero_outside", "zero_inside"]].isna().all(axis=None)


def test_trained_weights_are_held_against_the_masks():
    weights = {path: mask * 2.0 for path, mask in NETWORK.masks.items()}
    rows = inspect_layers(NETWORK, weights).set_index("layer")
    assert (rows[["nonzero_outside", "zero_inside"]] == 0).all(axis=None)
    weights["hidden_10/kernel"][0, :2] = 0, -1e-30  # One that remains, one that does not.
    rows = inspect_layers(NETWORK, weights).set_index("layer")
    for layer in ("all", "hidden_10/kernel"):
        assert rows.loc[layer, ["nonzero_outside", "zero_inside"]].to_list() == [1, 1]
    assert rows.loc["hidden_9/kernel", "nonzero_outside"] == 0


def test_a_matrix_has_a_cell_for_each_input_and_output():
    np.testing.assert_array_equal(as_matrix("hidden/kernel", HIDDEN), HIDDEN)
    np.testing.assert_array_equal(as_matrix("conv/kernel", CONV), [[0, 0, 0.5], [0, 0, 0]])
    depthwise = np.zeros((2, 2, 3, 2), bool)
    depthwise[0, :, 1, 1] = True
    matrix = as_matrix("conv/depthwise_kernel", depthwise)
    assert matrix.tolist() == [[0, 0], [0, 0.5], [0, 0]]
    into = np.zeros((4, 3, 2), bool)
    into[1, 2, 0] = True
    assert np.argwhere(as_matrix("query/kernel", into)).tolist() == [[1, 4]]
    out = np.zeros((3, 2, 4), bool)
    out[2, 0, 1] = True
    assert np.argwhere(as_matrix("attention_output/kernel", out)).tolist() == [[4, 1]]


def test_layers_are_counted_not_spelled():
    names = [f"layer_{number}__kernel" for number in (10, 9, 1)]
    found = [path for path, _ in in_order(ticket(**dict.fromkeys(names, [1])))]
    assert found == ["layer_1/kernel", "layer_9/kernel", "layer_10/kernel"]


CELL = Cell("mnist", "natural", "imp", 0, "lenet")


class Run:
    """A run with one ticket, as `RunDirectory` lays runs out."""

    def __init__(self, path, cell=CELL, stated=None):
        self.directory, self.cell = RunDirectory(path, {}, {}), cell
        self.initial = {"hidden_10/kernel": np.full((3, 4), 0.5), "logits/bias": np.zeros(2)}
        stated = arrays_sha256(self.initial) if stated is None else stated
        provenance = dataclasses.replace(NETWORK.provenance, initial_weights_sha256=stated)
        self.ticket = Ticket(NETWORK.masks, provenance)
        self.path = self.directory.ticket_path(cell, 3)
        self.ticket.save(self.path)

    def inspect(self):
        return inspect(self.path, self.ticket, "imp")


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


WITHOUT_MODEL = CELL._replace(model="")


@pytest.mark.parametrize(
    "cell,place",
    [
        (CELL, "own"),
        (CELL, "rewound"),
        (CELL, "pretrained"),
        (WITHOUT_MODEL, "own"),
        (WITHOUT_MODEL, "rewound"),
    ],
)
def test_the_initial_weights_are_found(tmp_path, cell, place):
    run = Run(tmp_path / "run", cell)
    pretraining = cell._replace(regime="pgd", method="at_pretraining")
    holding = {
        "own": run.directory.initial_weights_path(cell),
        "rewound": run.directory.rewind_weights_path(cell),
        "pretrained": run.directory.trained_weights_path(pretraining, 0),
    }
    # Others in the run are not mistaken for them.
    save_arrays(holding["own"], {"other": np.ones(1)})
    save_arrays(holding[place], run.initial)
    found = run.inspect()
    assert found.initial_weights.path == str(holding[place])
    assert f"in {holding[place]}" in inspection_text(found)
    assert found.to_json()["initial_weights"] == str(holding[place])


def test_other_initial_weights_are_told_apart(tmp_path, run):
    assert run.inspect().initial == []
    assert "its run does not hold them" in inspection_text(run.inspect())
    path = run.directory.initial_weights_path(CELL)
    save_arrays(path, run.initial | {"logits/bias": np.ones(2)})
    found = run.inspect()
    assert found.initial_weights is None
    assert f"not those of {path}: they are {found.initial[0].sha256[:12]}…" in inspection_text(
        found
    )
    path.write_bytes(path.read_bytes()[:-30])
    found = run.inspect()
    assert found.initial_weights is None and "damaged" in found.initial[0].problem
    unknown = Run(tmp_path / "unknown", stated="")
    save_arrays(unknown.directory.initial_weights_path(CELL), unknown.initial)
    assert unknown.inspect().initial_weights is None
    assert "initial weights  not stated" in inspection_text(unknown.inspect()).splitlines()


def test_the_trained_weights_are_found(run):
    path = run.directory.trained_weights_path(CELL, 3)
    weights = {name: mask * 2.0 for name, mask in NETWORK.masks.items()} | {"bias": np.zeros(4)}
    assert f"trained weights are missing; expected them in {path}" in run.inspect().trained.problem
    save_arrays(path, weights)
    found = run.inspect()
    assert found.trained == (str(path), arrays_sha256(weights), "")
    assert "zero outside the masks, 0 of 5 inside are zero" in inspection_text(found)
    weights["hidden_9/kernel"][:] = 1
    save_arrays(path, weights)
    assert "11 outside the masks NOT zero" in inspection_text(run.inspect())


def test_trained_weights_that_do_not_fit(run):
    path = run.directory.trained_weights_path(CELL, 3)
    save_arrays(path, {"hidden_10/kernel": np.zeros((4, 3))})
    found = run.inspect()
    assert str(path) in found.trained.problem and "another network" in found.trained.problem
    assert "(4, 3) instead of (3, 4)" in inspection_text(found)
    assert found.layers["zero_inside"].isna().all()
    path.write_text("no archive")
    assert "damaged" in run.inspect().trained.problem


def test_a_ticket_outside_of_a_run(tmp_path):
    found = inspect(Path("somewhere.npz"), NETWORK, "somewhere")
    assert found.initial == [] and "folder `tickets` of its run" in found.trained.problem


def test_text():
    text = inspection_text(inspect(Path("somewhere.npz"), NETWORK, "somewhere"))
    lines = text.splitlines()
    assert "dead units       4 of 7 outputs, 2 of 5 inputs" in lines
    assert "remaining        5: density 19.23%, sparsity 80.77%" in lines
    row = next(line for line in lines if line.startswith("hidden_9 ")).split("  ")
    cells = [cell.strip() for cell in row if cell.strip()]
    assert cells == ["hidden_9", "1x2x2x3", "12", "1", "8.33%", "91.67%", "2 of 3", "1 of 2"]
    assert "heads" not in text
