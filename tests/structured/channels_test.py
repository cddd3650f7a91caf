"""Which filters may go, and where they are read, against lists written by hand."""

import numpy as np
import pytest
import tf_keras as keras

from tests.structured import networks
from tf_tickets.errors import UserError
from tf_tickets.structured.channels import activation_of, channels_of, mixing_reads

layers = keras.layers


LOGITS = "its units are the model's outputs"


def test_what_is_added_is_tied_in_residual_networks():
    channels = channels_of(networks.narrow("resnet_18"))
    blocks = [f"stage_{stage}/block_{block}" for stage in (1, 2, 3, 4) for block in (1, 2)]
    firsts = {f"{block}/conv_1" for block in blocks}
    assert set(channels.untied_convolutions) == firsts
    added = {f"{block}/conv_2" for block in blocks}
    added |= {f"stage_{stage}/block_1/shortcut_conv" for stage in (2, 3, 4)}
    assert channels.tied == {"stem/conv", *added}
    assert set(channels.filters) == {*firsts, *channels.tied}
    assert channels.left_alone == {"logits": LOGITS}
    stage = ["stem/conv", "stage_1/block_1/conv_2", "stage_1/block_2/conv_2"]
    for name in stage:
        np.testing.assert_array_equal(channels.filters[name], channels.filters[stage[0]])
    others = [set(units) for name, units in channels.filters.items() if name not in stage]
    assert not set(channels.filters[stage[0]]) & set().union(*others)


def test_plain_and_densely_connected_networks_keep_nothing_but_their_logits():
    vgg = channels_of(networks.narrow("vgg_16"))
    assert len(vgg.untied_convolutions) == 13 and vgg.left_alone == {"logits": LOGITS}
    assert set(vgg.filters) - set(vgg.untied_convolutions) == {"hidden"} and not vgg.tied
    dense = channels_of(networks.dense_blocks())
    assert list(dense.filters) == ["stem", "conv_1", "conv_2", "conv_3", "transition"]
    assert not dense.tied


def test_mobilenets_projections_are_tied_in_each_stage():
    channels = channels_of(networks.mobilenet_v2())
    expansions = {f"block_{block}_expand" for block in range(1, 17)}
    # Blocks of a stage of one.
    alone = {"expanded_conv_project", "block_16_project"}
    assert set(channels.untied_convolutions) == {"Conv1", "Conv_1", *expansions, *alone}
    assert channels.tied == {f"block_{block}_project" for block in range(1, 16)}
    np.testing.assert_array_equal(
        channels.filters["block_3_project"], channels.filters["block_5_project"]
    )


def test_what_a_gate_weighs_may_go_and_takes_the_gate_along():
    channels = channels_of(networks.squeeze_and_excite())
    assert list(channels.filters) == ["gated", "squeeze", "after"] and not channels.tied
    assert channels.left_alone == {
        "excite": "its filters go with those of gated",
        "logits": LOGITS,
    }


def test_foreign_layers_lock_what_they_touch_and_say_so():
    channels = channels_of(networks.foreign_layers())
    assert list(channels.filters) == ["free", "grouped", "free_too"]
    reasons = channels.left_alone
    assert reasons["reversed"] == "it is not understood"
    assert reasons["before_custom"] == (
        "its outputs are read by reversed (Reversed), which is not understood"
    )
    assert reasons["before_operations"].endswith("(SlicingOpLambda), which is not understood")
    assert reasons["before_split"].endswith("(TFOpLambda), which is not understood")
    assert reasons["inner_conv"].endswith("by halved (Lambda), which is not understood")


def head(x):
    return layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(x))


def called_twice(x):
    shared = layers.Conv2D(3, 1, name="conv")
    return head(shared(shared(x)))


def channels_first(x):
    x = layers.Conv2D(4, 1, name="conv")(x)
    return layers.Dense(2)(layers.Flatten(data_format="channels_first", name="flatten")(x))


def reshaped(x):
    x = layers.Conv2D(4, 1, name="conv")(x)
    return head(layers.Reshape((16, 8, 2), name="reshape")(x))


def softmax_within(x):
    return head(layers.Conv2D(4, 1, name="conv", activation="softmax")(x))


def softmax_after(x):
    return head(layers.Activation("softmax", name="soft")(layers.Conv2D(4, 1, name="conv")(x)))


def other_axis(x):
    return head(layers.BatchNormalization(axis=1, name="norm")(layers.Conv2D(4, 1, name="conv")(x)))


def layer_norm(x):
    return head(layers.LayerNormalization(name="norm")(layers.Conv2D(4, 1, name="conv")(x)))


def broadcast(x):
    narrow = layers.Conv2D(1, 1, name="conv")(x)
    return head(layers.Multiply(name="scale")([layers.Conv2D(4, 1, name="wide")(x), narrow]))


def with_the_image(x):
    return head(layers.Subtract()([layers.Conv2D(3, 1, name="conv")(x), x]))


def the_output(x):
    return layers.GlobalMaxPooling2D()(layers.ReLU()(layers.Conv2D(3, 1, name="conv")(x)))


def all_with_itself(x):
    x = layers.Conv2D(2, 1, name="conv")(x)
    doubled = layers.DepthwiseConv2D(1, depth_multiplier=2)(x)
    return head(layers.Add()([doubled, layers.Concatenate()([x, x])]))


def per_channel(x):
    x = layers.Conv2D(2, 1, name="conv")(x)
    return head(layers.Rescaling([1.0, 2.0], name="scale")(x))


REASONS = [
    (called_twice, "it is called 2 times"),
    (channels_first, "its outputs are read by flatten (Flatten), which has its channels first"),
    (reshaped, "its outputs are read by reshape (Reshape), which mixes channels with positions"),
    (softmax_within, "it may couple channels by its activation softmax"),
    (
        softmax_after,
        "its outputs are read by soft (Activation), which may couple channels by its activation "
        "softmax",
    ),
    (
        other_axis,
        "its outputs are read by norm (BatchNormalization), which does not normalise the last axis",
    ),
    (
        layer_norm,
        "its outputs are read by norm (LayerNormalization), which normalises over all channels",
    ),
    (broadcast, "scale (Multiply) broadcasts one channel over others"),
    (with_the_image, "its filters are combined with the model's input"),
    (the_output, "its filters are the model's outputs"),
    (all_with_itself, "its filters could only go all together"),
    (per_channel, "its outputs are read by scale (Rescaling), which scales each channel differe"),
]


@pytest.mark.parametrize("build, why", REASONS, ids=[build.__name__ for build, _ in REASONS])
def test_filters_that_stay_have_a_reason(build, why):
    image = layers.Input((8, 8, 3))
    channels = channels_of(keras.Model(image, build(image)))
    assert "conv" not in channels.filters
    assert channels.left_alone["conv"].startswith(why)


def test_layers_without_weights_may_be_shared():
    image = layers.Input((8, 8, 3))
    relu = layers.ReLU()
    x = relu(layers.Conv2D(4, 1, name="one")(image))
    x = relu(layers.Conv2D(4, 1, name="two")(x))
    assert list(channels_of(keras.Model(image, head(x))).filters) == ["one", "two"]


def test_filters_beside_one_another_in_place_are_tied():
    image = layers.Input((8, 8, 3))
    some, others = (layers.Conv2D(3, 1, name=name)(image) for name in ("some", "others"))
    x = layers.Concatenate(axis=1)([some, others])
    channels = channels_of(keras.Model(image, head(x)))
    assert channels.tied == {"some", "others"}


def test_units_of_all_tensors_of_a_small_network():
    channels = channels_of(networks.flat_head())
    names = {call.layer.name: channels.units[call.output] for call in channels.graph.calls}
    first, second, hidden, logits = (
        names[name] for name in ("first", "second", "hidden", "logits")
    )
    all_units = np.concatenate([channels.units[channels.graph.input], first, second, hidden])
    assert len(np.unique(np.concatenate([all_units, logits]))) == 3 + 4 + 5 + 6 + 3
    np.testing.assert_array_equal(names["flatten"], np.tile(second, 2 * 1))
    for name, passed in (("pool", first), ("dropout", second), ("norm", names["flatten"])):
        np.testing.assert_array_equal(names[name], passed)
    image = channels.units[channels.graph.input]
    assert set(channels.locked) == {*image.tolist(), *logits.tolist()}


def test_feature_maps_are_those_after_norm_and_activation():
    image = layers.Input((8, 8, 3))
    x = layers.Conv2D(4, 1, name="normed")(image)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.ZeroPadding2D()(x)
    x = layers.Conv2D(4, 1, name="own", activation="relu")(x)
    y = layers.ReLU()(x)
    x = layers.Conv2D(4, 1, name="coupled")(layers.Add()([x, y]))
    x = layers.Softmax()(x)
    x = layers.Conv2D(4, 1, name="last")(x)
    x = layers.ELU(name="elu")(x)
    channels = channels_of(keras.Model(image, x))
    made_by = {call.output: call.layer.name for call in channels.graph.calls}
    maps = {"normed": "relu", "own": "own", "coupled": "coupled", "last": "elu"}
    for name, layer in maps.items():
        assert made_by[activation_of(channels, name)] == layer
    with pytest.raises(ValueError, match="other: no such layer"):
        activation_of(channels, "other")


def test_reads_of_filters_by_hand():
    channels = channels_of(networks.dense_blocks())
    calls = channels.graph.calls

    def reads(name):
        return {
            (calls[index].layer.name, position): carried.tolist()
            for index, position, carried in mixing_reads(channels, name)
        }

    other = [-1]
    assert reads("conv_2") == {
        ("conv_3", 0): 7 * other + [0, 1, 2],
        ("transition", 0): 7 * other + [0, 1, 2] + 3 * other,
    }
    assert reads("transition") == {("logits", 0): [0, 1, 2, 3, 4]}
    channels = channels_of(networks.depthwise_chain())
    calls = channels.graph.calls
    assert reads("first") == {("second", 0): np.repeat(range(5), 6).tolist()}
    channels = channels_of(networks.flat_head())
    calls = channels.graph.calls
    assert reads("second") == {("hidden", 0): 2 * [0, 1, 2, 3, 4]}
    assert reads("hidden") == {("logits", 0): [0, 1, 2, 3, 4, 5]}
    with pytest.raises(ValueError, match="logits: its filters may not be removed"):
        mixing_reads(channels, "logits")


def test_other_models_are_refused():
    class Subclassed(keras.Model):
        pass

    image = layers.Input((4,))
    two_outputs = keras.Model(image, [image * 2, image + 1], name="two")
    for model in (Subclassed(name="two"), keras.Sequential(name="two"), two_outputs):
        with pytest.raises(UserError, match="^two: expected a functional or built sequential"):
            channels_of(model)
