"""Networks without filters and blocks against the originals with zeros in their places."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.structured import networks
from tests.structured.networks import assert_same, images, some_filters, zeroed
from tf_tickets.errors import UserError
from tf_tickets.models.registry import build_model
from tf_tickets.structured.channels import channels_of
from tf_tickets.structured.cost import parameters
from tf_tickets.structured.surgery import Removal, remove, remove_units

layers = keras.layers

NETWORKS = {
    "vgg_16": lambda: networks.narrow("vgg_16"),
    "resnet_18": lambda: networks.narrow("resnet_18"),
    "resnet_20": lambda: networks.narrow("resnet_20"),
    "cifar_mobilenet_v2": lambda: networks.narrow("mobilenet_v2"),
    "wide_resnet_10_1": lambda: networks.narrow("wide_resnet_10_1"),
    "lenet_conv": lambda: networks.narrow("lenet_conv"),
    "resnet_50": networks.resnet_50,
    "mobilenet_v2": networks.mobilenet_v2,
    "dense_blocks": networks.dense_blocks,
    "squeeze_and_excite": networks.squeeze_and_excite,
    "depthwise_chain": networks.depthwise_chain,
    "flat_head": networks.flat_head,
    "residual": networks.residual,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_removing_filters_is_zeroing_them(name):
    model = NETWORKS[name]()
    inputs, filters = images(model), some_filters(model)
    before = model(inputs).numpy()
    smaller = remove(model, Removal(filters, ()))
    assert_same(smaller(inputs), zeroed(model, inputs, filters))
    assert np.abs(smaller(inputs) - before).max() > 1e-3 * np.abs(before).max()
    for layer, indices in filters.items():
        before_and_after = (each.get_layer(layer).output_shape[-1] for each in (model, smaller))
        assert next(before_and_after) - len(indices) == next(before_and_after)
    np.testing.assert_array_equal(model(inputs), before)  # The original is untouched.
    assert smaller.name == model.name
    assert [layer.name for layer in smaller.layers if layer.weights] == [
        layer.name for layer in model.layers if layer.weights
    ]


def without_branches(model, norms):
    """A copy of the model whose branches end in BatchNorms that give zero."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for name in norms:
        norm = copy.get_layer(name)
        norm.gamma.assign(tf.zeros_like(norm.gamma))
        norm.beta.assign(tf.zeros_like(norm.beta))
    return copy


RESNET_50_BLOCKS = (2, 3), (3, 2), (3, 4), (4, 2), (4, 3), (4, 5), (4, 6), (5, 3)
BLOCKS = {  # Network → sums, BatchNorms at the ends of the branches, a layer of a branch.
    "resnet_50": (
        tuple(f"conv{stage}_block{block}_add" for stage, block in RESNET_50_BLOCKS),
        tuple(f"conv{stage}_block{block}_3_bn" for stage, block in RESNET_50_BLOCKS),
        "conv4_block3_2_conv",
    ),
    "mobilenet_v2": (
        tuple(f"block_{block}_add" for block in (5, 7, 9, 11, 15)),
        tuple(f"block_{block}_project_BN" for block in (5, 7, 9, 11, 15)),
        "block_9_depthwise",
    ),
    "residual": (("sum_2", "sum_4"), ("norm_2", "norm_4"), "conv_2_1"),
}


@pytest.mark.parametrize(
    "name, with_filters",
    [("resnet_50", True), ("mobilenet_v2", True), ("residual", True), ("residual", False)],
)
def test_removing_blocks_is_adding_nothing(name, with_filters):
    model = NETWORKS[name]()
    sums, norms, inside = BLOCKS[name]
    inputs, filters = images(model), some_filters(model) if with_filters else {}
    smaller = remove(model, Removal(filters, sums))
    assert_same(smaller(inputs), zeroed(without_branches(model, norms), inputs, filters))
    names = {layer.name for layer in smaller.layers}
    assert not names & {*sums, *norms, inside} and names < {layer.name for layer in model.layers}


def test_a_relu_after_a_removed_sum_goes_where_it_would_change_nothing():
    smaller = remove(networks.residual(), Removal({}, ("sum_2", "sum_3")))
    names = [layer.name for layer in smaller.layers]
    assert [name for name in names if name.startswith("relu_")] == ["relu_1", "relu_4"]


@pytest.mark.parametrize(
    "first, second",
    [
        (layers.LeakyReLU(), layers.ReLU(name="second")),
        (layers.ReLU(), layers.ReLU(max_value=0.5, name="second")),
        (layers.ReLU(), layers.ReLU(threshold=0.3, name="second")),
        (layers.ReLU(negative_slope=0.5), layers.Activation("relu", name="second")),
    ],
)
def test_a_relu_after_a_removed_sum_stays_where_it_changes_something(first, second):
    image = layers.Input((4, 4, 3))
    x = layers.Conv2D(3, 1)(image)
    x = first(layers.Add()([layers.Conv2D(3, 1)(x), x]))
    x = second(layers.Add(name="sum")([layers.Conv2D(3, 1, name="branch")(x), x]))
    x = layers.Add()([layers.Conv2D(3, 1)(x), x])
    model = networks.randomised(keras.Model(image, layers.Flatten()(x)))
    smaller = remove(model, Removal({}, ("sum",)))
    model.get_layer("branch").set_weights([np.zeros((1, 1, 3, 3)), np.zeros(3)])
    assert_same(smaller(images(model)), model(images(model)))
    assert smaller.get_layer("second")


def test_again_and_again():
    model = networks.residual()
    once = remove(model, Removal({"conv_1_1": (0, 2), "conv_4_1": (4,)}, ("sum_2",)))
    twice = remove(once, Removal({"conv_1_1": (1,)}, ("sum_3",)))
    # What was 1 of what was left of conv_1_1 is 3 of all.
    at_once = remove(model, Removal({"conv_1_1": (3, 0, 2), "conv_4_1": (4,)}, ("sum_3", "sum_2")))
    assert [layer.name for layer in twice.layers] == [layer.name for layer in at_once.layers]
    np.testing.assert_array_equal(twice(images(model)), at_once(images(model)))
    with pytest.raises(UserError, match="sum_4: the block must stay, because its stage has no m"):
        remove(twice, Removal({}, ("sum_4",)))


def test_unknown_layers_stay_as_they_are_and_the_rest_works():
    model = networks.foreign_layers()
    inputs, filters = images(model), some_filters(model)
    assert set(filters) == {"free", "grouped", "free_too"}
    smaller = remove(model, Removal(filters, ()))
    assert_same(smaller(inputs), zeroed(model, inputs, filters))


def test_what_a_normalization_has_learned_of_the_data_stays():
    image = layers.Input((4, 4, 3))
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(0.4, 0.3, (20, 4, 4, 3)))
    x = layers.Conv2D(4, 3, name="conv")(normalization(image))
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))
    smaller = remove(model, Removal({"conv": (1,)}, ()))
    assert_same(smaller(images(model)), zeroed(model, images(model), {"conv": (1,)}))


def test_weights_are_what_is_left_of_the_old_ones():
    model = networks.depthwise_chain()
    smaller = remove(model, Removal({"first": (0, 3)}, ()))
    kept = [1, 2, 4]
    doubled = [2, 3, 4, 5, 8, 9]
    tripled = [6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 24, 25, 26, 27, 28, 29]
    expected = {
        "first": [np.s_[..., kept], kept],
        "slopes": [np.s_[..., kept]],
        "double": [np.s_[:, :, kept], doubled],
        "norm": [doubled] * 4,
        "triple": [np.s_[:, :, doubled], tripled],
        "second": [np.s_[:, :, tripled], np.s_[:]],
        "logits": [np.s_[:], np.s_[:]],
    }
    for name, left in expected.items():
        old, new = (network.get_layer(name).get_weights() for network in (model, smaller))
        for before, after, part in zip(old, new, left, strict=True):
            np.testing.assert_array_equal(after, before[part], err_msg=name)


def test_configurations_stay_but_for_the_sizes():
    model = networks.depthwise_chain()
    model.get_layer("norm").trainable = False
    smaller = remove(model, Removal({"first": (0, 3), "second": (1,)}, ()))
    for layer in smaller.layers:
        config, before = layer.get_config(), model.get_layer(layer.name).get_config()
        changed = {key for key in config if config[key] != before[key]}
        assert changed == ({"filters"} if layer.name in ("first", "second") else set())
        assert config["trainable"] if "trainable" in config and layer.name != "norm" else True
    assert not smaller.get_layer("norm").trainable


def test_dense_units_can_be_removed_as_well():
    model = networks.flat_head()
    channels = channels_of(model)
    hidden = next(call for call in channels.graph.calls if call.layer.name == "hidden")
    units = channels.units[hidden.output]
    smaller = remove_units(model, channels, units[[1, 4]])
    expected = keras.models.clone_model(model)
    expected.set_weights(model.get_weights())
    kernel, bias = expected.get_layer("logits").get_weights()
    kernel[[1, 4]] = 0
    expected.get_layer("logits").set_weights([kernel, bias])
    assert_same(smaller(images(model)), expected(images(model)))
    assert smaller.get_layer("hidden").units == 4


def test_parameters_left_by_hand():
    model = build_model("lenet_conv", (28, 28, 1), 10, seed=0)
    smaller = remove(model, Removal({"conv_1": tuple(range(5)), "conv_2": tuple(range(20))}, ()))
    convolutions = (25 * 15 + 15) + (25 * 15 * 30 + 30)
    assert parameters(smaller) == convolutions + (4 * 4 * 30 * 500 + 500) + (500 * 10 + 10)


@pytest.mark.parametrize("kind", ["file.keras", "folder"])
@pytest.mark.parametrize("name", ["depthwise_chain", "squeeze_and_excite", "flat_head"])
def test_saved_and_loaded(name, kind, tmp_path):
    model = NETWORKS[name]()
    smaller = remove(model, Removal(some_filters(model), ()))
    smaller.save(tmp_path / kind)
    loaded = keras.models.load_model(tmp_path / kind)
    np.testing.assert_allclose(loaded(images(model)), smaller(images(model)), rtol=1e-5)
    again = remove(loaded, Removal({}, ()))
    np.testing.assert_allclose(again(images(model)), smaller(images(model)), rtol=1e-5)


def test_the_result_can_be_trained():
    smaller = remove(networks.residual(), Removal({"conv_1_1": (0,)}, ("sum_3",)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(smaller(images(smaller), training=True)[:, 0])
    for gradient in tape.gradient(loss, smaller.trainable_variables):
        assert np.any(gradient)


@pytest.mark.parametrize(
    "filters, blocks, message",
    [
        ({"conv_9": (0,)}, (), "conv_9: no layer of that name; filters may go from stem, conv_1_1"),
        ({"conv_1_1": (5,)}, (), "conv_1_1: filter 5: expected 0 to 4"),
        ({"conv_1_1": (-1,)}, (), "conv_1_1: filter -1: expected 0 to 4"),
        (
            {"conv_1_1": (3, 1, 2, 0, 4)},
            (),
            "conv_1_1: all 5 filters were to go; at least one must stay",
        ),
        ({"logits": (0,)}, (), "logits: its filters must stay: its units are the model's outputs"),
        (
            {"stem": (0, 1), "conv_3_2": (2, 3)},
            (),
            "stem: at least one of its channels must stay",
        ),
        ({}, ("sum_5",), "sum_5: no residual block of that name; there are: sum_1, sum_2, sum_3"),
        ({}, ("sum_1",), "sum_1: the block must stay, because it is the first of its stage"),
        (
            {},
            ("sum_2", "sum_3", "sum_4"),
            "sum_4: the block must stay when sum_2, sum_3, sum_4 go, because each stage keeps 2",
        ),
    ],
)
def test_refused(filters, blocks, message):
    with pytest.raises(UserError) as caught:
        remove(networks.residual(), Removal(filters, blocks))
    assert str(caught.value).startswith(message)


def test_locked_units_and_whole_layers_are_refused():
    model = networks.flat_head()
    channels = channels_of(model)
    outputs, first = (channels.units[channels.graph.output], channels.filters["first"])
    with pytest.raises(UserError, match="must stay: its filters are the model's outputs"):
        remove_units(model, channels, outputs[:1])
    with pytest.raises(UserError, match="first: at least one of its channels must stay"):
        remove_units(model, channels, first)


def test_json_and_back():
    removal = Removal({"conv_1": (0, 2), "conv_2": ()}, ("sum_2",))
    content = json.loads(json.dumps(removal.to_json()))
    assert Removal.from_json(content, Path("removal.json")) == removal


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {"filters": {}},
        {"filters": {}, "blocks": [], "more": 1},
        {"filters": [], "blocks": []},
        {"filters": {"conv": 1}, "blocks": []},
        {"filters": {"conv": [1.0]}, "blocks": []},
        {"filters": {"conv": [True]}, "blocks": []},
        {"filters": {}, "blocks": "sum"},
        {"filters": {}, "blocks": [1]},
    ],
)
def test_damaged_json_is_refused(content):
    with pytest.raises(UserError, match="^removal.json: damaged; expected an object with"):
        Removal.from_json(content, Path("removal.json"))


def test_a_layer_that_cannot_be_built_again_is_named():
    class Closed(layers.Layer):
        def __init__(self, function, name):
            super().__init__(name=name)
            self.function = function

        def call(self, inputs):
            return self.function(inputs)

    image = layers.Input((4, 4, 3))
    x = Closed(lambda maps: maps + 1, "closed")(layers.Conv2D(3, 1)(image))
    model = keras.Model(image, layers.GlobalMaxPooling2D()(x))
    with pytest.raises(UserError, match=r"closed \(Closed\): cannot be built from its config"):
        remove(model, Removal({}, ()))
