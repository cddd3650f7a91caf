"""What a round removes: exact counts, the lowest scores, and what must stay."""

import contextlib
import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import tf_keras as keras

from tf_tickets.data.vision import ImageSplit
from tf_tickets.errors import UserError
from tf_tickets.models.registry import build_model
from tf_tickets.structured.channels import channels_of
from tf_tickets.structured.cost import flops
from tf_tickets.structured.criteria import CRITERIA, score
from tf_tickets.structured.selection import (
    Cut,
    choose_removal,
    exact_ceil,
    least_important,
    require_possible,
    widths,
)
from tf_tickets.structured.surgery import Removal, remove

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
    scores = {name: generator.random(n) for name, n in (("a", 16), ("b", 30), ("c", 64))}
    chosen = least_important(scores, 0.1, "layerwise")
    # 1.6, 3 and 6.4, to the nearest.
    assert {layer: len(indices) for layer, indices in chosen.items()} == {"a": 2, "b": 3, "c": 6}
    assert chosen["b"] == tuple(sorted(np.argsort(scores["b"])[:3]))


@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_no_layer_loses_more_than_the_most(scope):
    scores = {"a": np.arange(10) / 100, "b": 1 + np.arange(30.0)}
    chosen = least_important(scores, 0.25, scope, max_share_per_layer=0.2)
    # Globally 10 of 40 go: 2 of a, and 6, not 8, of b. Of each layer a quarter is more.
    assert chosen == {"a": (0, 1), "b": tuple(range(6))}


@pytest.mark.parametrize("size, share, stay", [
    (96, 0.3, 64), (24, 0.1, 24), (24, 0.2, 16), (20, 0.2, 16), (32, 0.6, 16), (12, 0.5, 8),
    (16, 0.99, 8), (6, 0.5, 6),
])  # fmt: skip
def test_as_many_stay_as_make_a_multiple(size, share, stay):
    """The nearest multiple of 8 that the layer can have; 6 filters have none."""
    chosen = least_important({"a": np.arange(size)}, share, "layerwise", round_to=8)
    assert size - len(chosen.get("a", ())) == stay


def two_convolutions(activation="relu"):
    """16 filters of 27 weights, then 24 of 144: raw sums are smaller in the first layer."""
    keras.utils.set_random_seed(0)
    image = keras.layers.Input((8, 8, 3))
    x = keras.layers.Conv2D(16, 3, activation="relu", name="first")(image)
    x = keras.layers.Conv2D(24, 3, activation=activation, name="second")(x)
    return keras.Model(image, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("scope", ["global", "layerwise"])
@pytest.mark.parametrize("criterion", ["l1", "expected_abs", "hrank"])
def test_layers_of_unlike_fan_in_lose_about_the_same_share(criterion, scope):
    model, generator = two_convolutions(), np.random.default_rng(2)
    images = generator.integers(256, size=(40, 8, 8, 3), dtype=np.uint8)
    split = ImageSplit(images, generator.integers(10, size=40))
    removal, _ = choose_removal(model, Cut(criterion, 0.3, 0, scope), split)
    left = widths(channels_of(model), removal)
    shares = {name: 1 - after / before for name, (before, after) in left.items()}
    low, high = (0.25, 0.35) if scope == "layerwise" else (0.1, 0.65)
    assert all(low < share < high for share in shares.values()), shares


@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_new_weights_of_mobilenet_leave_no_layer_nearly_empty(scope):
    model = keras.applications.MobileNetV2(
        weights=None, alpha=0.35, input_shape=(32, 32, 3), classes=10, classifier_activation=None
    )
    removal, _ = choose_removal(model, Cut("l1", 0.3, 0, scope), None)
    left = widths(channels_of(model), removal)
    assert len(left) > 10
    assert all(after > 0.35 * before for before, after in left.values()), left


def test_layers_to_keep_stay_as_they_are(network):
    kept = ("stage_1/block_1/conv_1", "stage_3/block_2/conv_2", "stage_3/block_3/sum")
    cut = Cut("l1", 0.5, 3, "global", keep_layers=kept)
    with pytest.raises(UserError, match="--blocks=3: expected at most 2"):
        choose_removal(network, cut, None)
    removal, _ = choose_removal(network, dataclasses.replace(cut, blocks=2), None)
    assert kept[0] not in removal.filters
    assert not any(name.startswith("stage_3") for name in removal.blocks)
    with pytest.raises(UserError, match="--keep_layers=nobody: expected names of layers, such as"):
        choose_removal(network, dataclasses.replace(cut, keep_layers=("nobody",)), None)


def test_as_many_filters_go_as_the_flops_ask_for(network):
    cut = Cut("l1", 0.0, 0, "layerwise", flops=0.7)
    removal, _ = choose_removal(network, cut, None)
    left = flops(remove(network, removal)) / flops(network)
    assert 0.6 < left <= 0.7
    # Layers of 8, 16 and 32 filters lose more at some of the multiples of 1/64, and only there.
    steps = [
        choose_removal(network, Cut("l1", part / 64, 0, "layerwise"), None)[0].filters
        for part in range(8, 14)
    ]
    enough = steps.index(removal.filters)
    assert enough > 0
    assert flops(remove(network, Removal(steps[enough - 1], ()))) > 0.7 * flops(network)
    require_possible(network, cut)
    with pytest.raises(UserError, match=r"--flops=0.005: expected at least 0\.\d+, which is what"):
        require_possible(network, dataclasses.replace(cut, flops=0.005))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("criterion", [each for each in CRITERIA if each != "random"])
def test_scores_that_are_not_finite_decide_nothing(criterion, value):
    """What one broken filter of the second layer makes of them, by the name of that layer."""
    # ReLU would make 0 of NaN.
    model, generator = two_convolutions(activation=None), np.random.default_rng(2)
    images = generator.integers(256, size=(40, 8, 8, 3), dtype=np.uint8)
    kernel = model.get_layer("second").kernel
    kernel.assign(np.where(np.arange(24) == 3, value, kernel.numpy()))
    # KL compares all answers with those of the broken network.
    layer = "first" if criterion == "kl" else "second"
    message = f"^--criterion={criterion}: expected finite scores, which those of {layer} are not$"
    with pytest.raises(UserError, match=message):
        split = ImageSplit(images, generator.integers(10, size=40))
        choose_removal(model, Cut(criterion, 0.3, 0, "global"), split)


@pytest.mark.parametrize("scope", ["global", "layerwise"])
@pytest.mark.parametrize("share", [0.5, 0.3337, 0.123])
def test_of_many_filters_not_one_too_many_goes(scope, share):
    image = keras.layers.Input((4,))
    hidden = keras.layers.Dense(5000, name="hidden")(image)
    model = keras.Model(image, keras.layers.Dense(3)(hidden))
    # A unit multiplies and adds 4 and 3 times and has a bias; so has each of the 3 answers.
    assert flops(model) == 5000 * (2 * 4 + 2 * 3 + 1) + 3
    removal, _ = choose_removal(model, Cut("l1", 0.0, 0, scope, flops=share), None)
    staying = (math.floor(share * flops(model)) - 3) // 15
    assert len(removal.filters["hidden"]) == 5000 - staying


def test_a_goal_that_filters_cannot_reach_is_refused_by_its_own_flag():
    image = keras.layers.Input((4,))
    hidden = keras.layers.Dense(1)(image)
    model = keras.Model(image, keras.layers.Dense(3)(hidden))
    message = "^--flops=0.5: expected none, as no layer has filters enough to lose any$"
    with pytest.raises(UserError, match=message):
        require_possible(model, Cut("l1", 0.0, 0, "layerwise", flops=0.5))


@pytest.mark.parametrize("wide", [2, 3, 4])
def test_what_is_possible_does_not_depend_on_the_blocks_that_chance_would_take(wide):
    """One block costs more than the others; without it as little is left as can be."""
    x = image = keras.layers.Input((8, 8, 8))
    for number in range(1, 5):
        branch = keras.layers.Conv2D(40 if number == wide else 4, 3, padding="same")(x)
        branch = keras.layers.Conv2D(8, 3, padding="same")(branch)
        x = keras.layers.Add(name=f"sum_{number}")([x, branch])
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    least = {}
    for number in (2, 3, 4):
        without = remove(model, Removal({}, (f"sum_{number}",)))
        removal, _ = choose_removal(without, Cut("l1", 0.9, 0, "layerwise"), None)
        least[number] = flops(remove(without, removal))
    assert min(least, key=least.get) == wide and len(set(least.values())) == 2
    for extra, possible in ((0.5, True), (-0.5, False)):
        goal = (least[wide] + extra) / flops(model)
        with contextlib.nullcontext() if possible else pytest.raises(UserError, match="--flops="):
            require_possible(model, Cut("l1", 0.0, 1, "layerwise", flops=goal))


def test_a_share_that_takes_nothing_is_refused():
    cut = Cut("l1", 0.01, 0, "layerwise")
    with pytest.raises(UserError, match="--filters=0.01: expected more, as no layer has filters"):
        choose_removal(two_convolutions(), cut, None)


def test_every_layer_keeps_its_best_filter():
    assert least_important(SCORES, 0.99, "global") == {"a": (0, 1), "b": (0,)}


def test_equal_scores_go_in_order():
    assert least_important({"a": np.ones(4), "b": np.ones(4)}, 0.25, "global") == {"a": (1, 2)}


@pytest.mark.parametrize("share, size, expected", [(0.1, 30, 3), (0.1, 336, 34), (0.3, 10, 3)])
def test_the_count_is_rounded_up_once(share, size, expected):
    assert exact_ceil(share * size) == expected


def test_both_at_once(network, examples):
    cut = Cut("l1", filters=0.2, blocks=2, scope="global", free_convolutions_only=True)
    removal, scores = choose_removal(network, cut, examples)
    # Only the first convolution of a block, as in the paper.
    assert list(scores.filters) == [
        f"stage_{stage}/block_{block}/conv_1" for stage in (1, 2, 3) for block in (1, 2, 3)
    ]
    assert len(removal.blocks) == 2
    assert len({name.split("/")[0] for name in removal.blocks}) == 2  # Two of three blocks stay.
    gone = {name.removesuffix("sum") + "conv_1" for name in removal.blocks}
    assert not gone & set(removal.filters)
    competing = sum(len(v) for name, v in scores.filters.items() if name not in gone)
    assert sum(map(len, removal.filters.values())) == math.ceil(0.2 * competing)
    smaller = remove(network, removal)
    assert smaller.count_params() < network.count_params()


def test_filters_that_are_added_go_together_by_their_mean_score(network):
    removal, _ = choose_removal(network, Cut("l1", 0.25, 0, "layerwise"), None)
    first = score(network, "l1", None, 0).filters
    together = ["stem/conv", *(f"stage_1/block_{block}/conv_2" for block in (1, 2, 3))]
    means = np.mean([first[name] for name in together], axis=0)
    assert set(together) & set(removal.filters) == {together[0]}  # Each is named once.
    assert removal.filters[together[0]] == tuple(sorted(np.argsort(means)[:2].tolist()))
    left = widths(channels_of(network), removal)
    smaller = remove(network, removal)
    for name, (before, after) in left.items():
        assert network.get_layer(name).filters == before
        assert smaller.get_layer(name).filters == after < before


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
     {"blocks": math.nan}, {"scope": "all"}, {"criterion": "l2"}, {"filters": 0.95},
     {"max_share_per_layer": 0.0}, {"max_share_per_layer": math.nan}, {"round_to": 0},
     {"flops": 0.5}, {"flops": 1.0}, {"flops": math.nan}],
)  # fmt: skip
def test_cuts_out_of_range(changes):
    values = {"criterion": "l1", "filters": 0.1, "blocks": 1, "scope": "global"} | changes
    with pytest.raises(UserError, match=f"--{next(iter(changes))}="):
        Cut(**values)


def test_any_kind_of_layer_can_be_kept():
    """A depthwise convolution has the channels of the convolution before it."""
    image = keras.Input((8, 8, 3))
    hidden = keras.layers.Conv2D(8, 3, name="first")(image)
    hidden = keras.layers.DepthwiseConv2D(3, name="depthwise")(hidden)
    hidden = keras.layers.Conv2D(8, 1, name="second")(hidden)
    hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    model = keras.Model(image, keras.layers.Dense(3)(hidden))
    cut = Cut("l1", 0.5, 0, "layerwise", keep_layers=("depthwise",))
    assert list(choose_removal(model, cut, None)[0].filters) == ["second"]
