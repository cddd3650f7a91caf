"""What a round removes: exact counts, the lowest scores, and what must stay."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import tf_keras as keras

from tf_tickets.data.vision import ImageSplit
from tf_tickets.errors import UserError
from tf_tickets.models.registry import build_model
from tf_tickets.structured.criteria import score
from tf_tickets.structured.selection import Cut, choose_removal, exact_ceil, least_important
from tf_tickets.structured.surgery import remove

SCORES = {"a": np.array([0.5, 0.1, 0.9]), "b": np.array([0.2, 0.3]), "c": np.array([0.05])}


@pytest.fixture(scope="module")
def network():
    return build_model("resnet_20", (16, 16, 3), 10, 0, 0.5)


@pytest.fixture(scope="module")
def examples():
    generator = np.random.default_rng(2)
    images = generator.integers(256, size=(40, 16, 16, 3), dtype=np.uint8)
    return ImageSplit(images, generator.integers(10, size=40))


def by_brute_force(scores, share):
    """The set of ⌈p · |S|⌉ filters of the smallest total score that empties no layer."""
    places = [(layer, i) for layer, values in scores.items() for i in range(len(values))]
    count = math.ceil(Fraction(str(share)) * len(places))
    possible = [
        chosen
        for chosen in itertools.combinations(places, count)
        if all(any((layer, i) not in chosen for i in range(len(v))) for layer, v in scores.items())
    ]
    return set(min(possible, key=lambda chosen: sum(scores[layer][i] for layer, i in chosen)))


@pytest.mark.parametrize("share", [0.1, 0.2, 0.34, 0.5])
def test_the_lowest_scores_of_the_whole_network_go(share):
    chosen = least_important(SCORES, share, "global")
    found = {(layer, index) for layer, indices in chosen.items() for index in indices}
    assert found == by_brute_force(SCORES, share)


def test_layerwise_every_layer_loses_its_share():
    generator = np.random.default_rng(0)
    scores = {"a": generator.random(16), "b": generator.random(30)}
    chosen = least_important(scores, 0.1, "layerwise")
    assert {layer: len(indices) for layer, indices in chosen.items()} == {"a": 2, "b": 3}
    assert chosen["b"] == tuple(sorted(np.argsort(scores["b"])[:3]))


def test_every_layer_keeps_its_best_filter():
    assert least_important(SCORES, 0.99, "global") == {"a": (0, 1), "b": (0,)}


def test_equal_scores_go_in_order():
    assert least_important({"a": np.ones(4), "b": np.ones(4)}, 0.25, "global") == {"a": (1, 2)}


@pytest.mark.parametrize("share, size, expected", [(0.1, 30, 3), (0.1, 336, 34), (0.3, 10, 3)])
def test_the_count_is_rounded_up_once(share, size, expected):
    assert exact_ceil(share * size) == expected


def test_both_at_once(network, examples):
    cut = Cut("l1", filters=0.2, blocks=2, scope="global")
    removal, scores = choose_removal(network, cut, examples)
    assert scores.filters.keys() == score(network, "l1", examples, 0).filters.keys()
    assert len(removal.blocks) == 2
    assert len({name.split("/")[0] for name in removal.blocks}) == 2  # Two of three blocks stay.
    gone = {name.removesuffix("sum") + "conv_1" for name in removal.blocks}
    assert not gone & set(removal.filters)
    competing = sum(len(v) for name, v in scores.filters.items() if name not in gone)
    assert sum(map(len, removal.filters.values())) == math.ceil(0.2 * competing)
    smaller = remove(network, removal)
    assert smaller.count_params() < network.count_params()


def test_a_share_of_the_blocks(network, examples):
    removal, scores = choose_removal(network, Cut("l1", 0.0, 0.1, "global"), examples)
    assert removal.blocks == (min(scores.blocks, key=scores.blocks.get),)  # ⌈0.1 · 6⌉
    assert not removal.filters


@pytest.mark.parametrize(
    "blocks, message",
    [(4, r"--blocks=4: expected at most 3"), (0.9, "--blocks=0.9: expected at most 3")],
)
def test_more_blocks_than_may_go(network, examples, blocks, message):
    with pytest.raises(UserError, match=message):
        choose_removal(network, Cut("l1", 0.0, blocks, "global"), examples)


def test_a_network_that_has_none(examples):
    image = keras.layers.Input((16, 16, 3))
    dense = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image)))
    for flag, cut in {"filters": (0.1, 0), "blocks": (0.0, 1)}.items():
        with pytest.raises(UserError, match=f"--{flag}=.*: expected 0, as this network has no"):
            choose_removal(dense, Cut("l1", *cut, "global"), examples)


@pytest.mark.parametrize(
    "changes",
    [{"filters": 1.0}, {"filters": -0.1}, {"blocks": 1.5}, {"blocks": -1}, {"blocks": math.inf},
     {"blocks": math.nan}, {"scope": "all"}, {"criterion": "l2"}],
)  # fmt: skip
def test_cuts_out_of_range(changes):
    values = {"criterion": "l1", "filters": 0.1, "blocks": 1, "scope": "global"} | changes
    with pytest.raises(UserError, match=f"--{next(iter(changes))}="):
        Cut(**values)
