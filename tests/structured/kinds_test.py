"""Each kind of layer: what goes with a filter is measured, and the logits are those of zeros."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.structured import networks
from tests.structured.measured import MIXING, Disturbed
from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.models.graph import graph_of
from tf_tickets.structured.channels import channels_of
from tf_tickets.structured.compaction import compact
from tf_tickets.structured.elements import VersionedNetwork
from tf_tickets.structured.surgery import Removal, remove

layers = keras.layers


def conv(x, filters, name, **options):
    return layers.Conv2D(filters, 3, padding="same", name=name, **options)(x)


def hard_swish(x):
    x = conv(x, 5, "one")
    x = x * layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)
    x = conv(x, 4, "two")
    return tf.nn.relu(2.0 - x / 2.0) - 1.0


def operations(x):
    x = conv(x, 4, "one")
    y = tf.math.tanh(conv(x, 4, "added"))
    x = tf.concat([x + y, tf.square(conv(x, 3, "beside"))], axis=-1)
    x = tf.maximum(conv(x, 4, "two"), 0.0)
    x = tf.reduce_mean(x, [1, 2], keepdims=True)
    return layers.Conv2D(4, 1, name="three")(x)


def activation_layers(x):
    x = conv(x, 5, "one", activation=layers.LeakyReLU(0.1))
    x = conv(x, 4, "two", activation=layers.ReLU(6.0))
    return layers.Activation(layers.ELU())(conv(x, 4, "three"))


def dropouts(x):
    x = layers.Dropout(0.5, noise_shape=(None, 1, 1, 5))(conv(x, 5, "one"))
    x = layers.Dropout(0.5, noise_shape=(None, 1, 1, 1))(conv(x, 4, "two"))
    return layers.Dropout(0.5, noise_shape=(1, 6, 6, 4))(x)


def separable(x):
    x = layers.SeparableConv2D(6, 3, depth_multiplier=2, name="one", activation="relu")(x)
    x = layers.BatchNormalization()(x)
    return layers.SeparableConv2D(4, 3, use_bias=False, name="two")(x)


def transposed(x):
    x = conv(x, 4, "one", activation="relu")
    x = layers.Conv2DTranspose(5, 3, strides=2, name="up", activation="tanh")(x)
    return layers.Conv2DTranspose(4, 2, name="more", use_bias=False)(x)


def few_large_groups(x):
    x = conv(x, 6, "one", activation="relu")
    x = conv(x, 8, "grouped", groups=2)
    return conv(layers.ReLU()(x), 4, "two")


def many_small_groups(x):
    x = conv(x, 8, "one", activation="relu")
    x = layers.BatchNormalization()(conv(x, 12, "grouped", groups=4))
    return conv(layers.ReLU()(x), 4, "two")


def group_norm(x):
    x = conv(x, 8, "one")
    x = layers.ReLU()(layers.GroupNormalization(4)(x))
    return layers.GroupNormalization(-1)(conv(x, 4, "two"))


def layer_norms(x):
    x = stream = conv(x, 4, "stem")
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.Dense(7, activation="gelu", name="wide")(x)
    return layers.Dense(4, name="narrow")(x) + stream


def added(x):
    x = conv(x, 4, "stem")
    y = conv(layers.ReLU()(x), 5, "inner")
    y = conv(y, 4, "branch")
    side = layers.MaxPooling2D()(conv(y, 3, "side"))
    x = layers.Add()([x, y])
    x = layers.Average()([layers.ReLU()(x), conv(x, 4, "other")])
    return layers.Concatenate()([layers.AveragePooling2D()(x), side])


def gate_of(x, filters, name):
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(3, 1, activation="relu", name=f"{name}_squeeze")(gate)
    return layers.Conv2D(filters, 1, activation="sigmoid", name=f"{name}_excite")(gate)


def gated_residual(x):
    x = conv(x, 4, "stem")
    y = conv(layers.ReLU()(x), 4, "branch")
    x = layers.Add()([x, layers.Multiply()([gate_of(y, 4, "gate"), y])])
    return x * gate_of(x, 4, "last")


def spatial_attention(x):
    x = conv(x, 5, "one", activation="relu")
    return layers.Multiply(name="attend")([x, conv(x, 1, "map", activation="sigmoid")])


def sequences(x):
    x = layers.Reshape((36, 5))(conv(x, 5, "one"))
    x = layers.Conv1D(4, 3, padding="causal", activation="relu", name="along")(x)
    x = layers.MaxPooling1D()(layers.ZeroPadding1D(1)(x))
    x = layers.Conv1D(4, 3, groups=2, name="grouped")(x)
    return layers.Reshape((1, 1, 4))(layers.GlobalAveragePooling1D()(x))


def resized(x):
    x = layers.Resizing(9, 9)(layers.Rescaling([1.0, 2.0, 3.0])(x))
    return layers.Resizing(5, 4, interpolation="bilinear")(conv(x, 5, "one"))


def inception_resnet(x):
    from tf_keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    x = conv(x, 4, "stem")
    return layers.ReLU()(CustomScaleLayer(0.3)([x, conv(x, 4, "up")]))


def partly_added(x):
    x = conv(x, 5, "wide")
    y = layers.Concatenate()([conv(x, 3, "left"), conv(x, 2, "right")])
    return layers.Concatenate()([conv(x + y, 3, "after"), layers.Add()([x, x])])


def in_models(x):
    inner = keras.Sequential(
        [layers.Input((6, 6, 3)), layers.Conv2D(4, 3, name="conv"), layers.ReLU()], name="inner"
    )
    image = layers.Input((6, 6, 3))
    y = layers.BatchNormalization(name="norm")(layers.Conv2D(5, 3, name="conv")(inner(image)))
    middle = keras.Model(image, y, name="middle")
    return conv(middle(x, training=False), 4, "conv", activation="relu")


def called_twice(x):
    shared = keras.Sequential(
        [layers.Input((6, 6, 3)), layers.Conv2D(3, 3, padding="same", name="shared")], name="twice"
    )
    return conv(shared(shared(x)), 4, "after")


# What makes the network; layers that go as tied; what stays, but for the head; what the oracle
# cannot measure, see `Disturbed`.
KINDS = [
    (hard_swish, set(), {}, {}),
    (operations, {"one", "added"}, {}, {}),
    (activation_layers, set(), {}, {}),
    (dropouts, set(), {}, {}),
    (separable, set(), {}, {}),
    (transposed, set(), {}, {}),
    (few_large_groups, {"grouped", "one"}, {}, {"by_share": ["grouped"]}),
    (many_small_groups, {"grouped", "one"}, {}, {"by_group": ["grouped"]}),
    (group_norm, {"one"}, {}, {}),
    (layer_norms, set(), {"stem", "narrow", "norm"}, {}),
    (added, {"stem", "branch", "other"}, {}, {}),
    (gated_residual, {"stem", "branch"}, {"gate_excite", "last_excite"}, {}),
    (spatial_attention, set(), {"map"}, {"apart": ["map"]}),
    (sequences, {"along", "grouped"}, {}, {"by_share": ["grouped"]}),
    (resized, set(), {"rescaling"}, {}),
    (inception_resnet, {"stem", "up"}, {}, {}),
    (partly_added, {"wide", "left", "right"}, {}, {}),
    (in_models, set(), {}, {}),
    (called_twice, set(), {"shared"}, {}),
]


def build(kind, seed=1):
    keras.backend.clear_session()
    image = layers.Input((6, 6, 3))
    x = layers.GlobalAveragePooling2D()(kind(image))
    return randomised(keras.Model(image, layers.Dense(3, name="head")(x)), seed)


def randomised(model, seed):
    """As `networks.randomised`, with the layers of models in the model."""
    flat = [layer for layer in model._flatten_layers() if not isinstance(layer, keras.Model)]

    class Layers:
        layers = [layer for layer in flat if layer.weights]

    networks.randomised(Layers, seed)
    return model


def assert_logits(actual, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual / scale, expected / scale, rtol=0, atol=2e-6)


def check(model, known=None, most=4, seed=0):
    """Removes filters of each layer that may lose some, one by one and together."""
    inputs = networks.images(model, 8)
    disturbed, channels = Disturbed(model, inputs, **known or {}), channels_of(model)
    generator, removed = np.random.default_rng(seed), []
    for name, units in channels.filters.items():
        if len(set(units.tolist())) > 1:
            filters = generator.permutation(len(units))[:most].tolist()
            removed += [{name: (filter_,)} for filter_ in filters]
    removed.append(networks.some_filters(model, seed=seed + 1))
    for filters in removed:
        named = {(name, index) for name, indices in filters.items() for index in indices}
        gone = disturbed.together(named)
        smaller = remove(model, Removal(filters, ()))
        assert_logits(smaller(inputs, training=False), disturbed.zeroed(gone))
        for call in channels.graph.calls:
            if type(call.layer) in MIXING:
                before = channels.graph.shapes[call.output][-1]
                left = smaller.get_layer(call.name).output_shape[-1]
                assert before - left == sum(name == call.name for name, _ in gone), filters
    return channels


@pytest.mark.parametrize(
    "kind, tied, stays, known", KINDS, ids=[kind.__name__ for kind, *_ in KINDS]
)
def test_removing_is_zeroing_what_goes_together(kind, tied, stays, known):
    channels = check(build(kind), known)
    assert channels.tied == tied
    left_alone = {name.split("_1")[0] for name in channels.left_alone}
    assert left_alone == {"head", *stays}
    makers = {call.name for call in channels.graph.calls if type(call.layer) in MIXING}
    assert makers == {*channels.filters, *(makers & set(channels.left_alone))}


@pytest.mark.parametrize("kind", [kind for kind, *_ in KINDS], ids=lambda kind: kind.__name__)
def test_other_users_of_the_graph_give_the_logits(kind):
    model = build(kind, seed=2)
    inputs = networks.images(model)
    logits = model(inputs, training=False).numpy()
    assert_logits(FoldedNetwork(model).with_fixed_weights()(inputs), logits)
    for layer in model._flatten_layers():  # Some filters, but for their biases.
        if type(layer) in (layers.Conv2D, layers.Dense):
            kernel, *others = layer.get_weights()
            kernel[..., kernel.shape[-1] // 2] = 0
            layer.set_weights([kernel, *others])
    logits = model(inputs, training=False).numpy()
    assert_logits(compact(model).model(inputs, training=False), logits)


@pytest.mark.parametrize("kind, name", [(many_small_groups, "one"), (added, "branch")])
def test_a_version_without_one_of_several_lacks_them_all(kind, name):
    model = build(kind)
    versions, inputs = VersionedNetwork(model, [name]), networks.images(model)
    group = next(group for group in versions.groups if group.name == name)
    kept = np.ones((2, len(group.elements)), np.float32)
    kept[1, 3] = 0
    found = versions.logits(group, inputs, tf.constant(kept)).numpy()
    assert_logits(found[:4], model(inputs).numpy())
    assert_logits(found[4:], remove(model, Removal({name: (3,)}, ()))(inputs).numpy())


def test_names_within_models_are_made_unique():
    model = build(in_models)
    names = [call.name for call in graph_of(model).calls if type(call.layer) is layers.Conv2D]
    assert names == ["middle/inner/conv", "middle/conv", "conv"]
    smaller = remove(model, Removal({"middle/conv": (1,)}, ()))
    assert smaller.get_layer("middle/conv").filters == 4
    assert [call.name for call in graph_of(smaller).calls] == [
        call.name for call in graph_of(model).calls
    ]
    norm = next(call for call in graph_of(smaller).calls if call.name == "norm")
    assert norm.training is False


def test_hard_swish_by_hand():
    """One number, three filters, the second of which goes."""
    image = layers.Input((1, 1, 1))
    x = layers.Conv2D(3, 1, name="conv")(image)
    x = x * layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)
    model = keras.Model(image, layers.Dense(1, name="head")(layers.Flatten()(x)))
    model.get_layer("conv").set_weights([np.array([[[[1.0, 2, 3]]]]), np.array([0.0, 1, -5])])
    model.get_layer("head").set_weights([np.array([[1.0], [10], [100]]), np.array([7.0])])
    smaller = remove(model, Removal({"conv": (1,)}, ()))
    # For 2: 2 · 5 / 6 and 1 · 4 / 6.
    assert smaller(np.full((1, 1, 1, 1), 2.0)).numpy().item() == pytest.approx(
        10 / 6 + 100 * 4 / 6 + 7
    )


def two_inputs(x):
    images = [layers.Input((6, 6, 3)), layers.Input((6, 6, 3))]
    y = layers.Add()([conv(image, 4, f"of_{number}") for number, image in enumerate(images)])
    return keras.Model(images, y, name="foreign")([x, x])


def sliced_models(x):
    image = layers.Input((6, 6, 3))
    inner = keras.Model(image, conv(image, 4, "within"), name="inner")
    return tf.nn.relu(inner(x)[:, 1:]) * inner(x)[:, 1:]


def where_positive(x):
    x = conv(x, 4, "one")
    return tf.where(x > 0, x, tf.zeros_like(x))


def numbers_for_each_channel(x):
    return conv(x, 4, "one") * tf.constant([1.0, 2.0, 3.0, 4.0])


def over_channels(x):
    x = conv(x, 4, "one")
    return x / tf.reduce_sum(tf.abs(x), -1, keepdims=True)


def reshaped_by_shape(x):
    x = conv(x, 4, "one")
    sizes = tf.shape(x)
    return tf.reshape(x, [sizes[0], sizes[1], sizes[2], 4])


FOREIGN = [
    two_inputs,
    sliced_models,
    where_positive,
    numbers_for_each_channel,
    over_channels,
    reshaped_by_shape,
]


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.__name__)
def test_what_is_not_understood_is_left_alone_with_a_reason(kind):
    model = build(lambda x: conv(kind(x), 4, "after"))
    channels = check(model)
    assert set(channels.filters) == {"after"} and channels.obscure
    for name, why in channels.left_alone.items():
        assert len(why) < 200 and ("understood" in why or "called" in why or name == "head")
