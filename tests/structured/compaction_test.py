"""Compacted networks against the originals, and what goes against measurements and by hand."""

import numpy as np
import pytest
import tf_keras as keras

from tests.structured import killing, networks
from tests.structured.killing import images, kill, set_zero, tensors_of
from tf_tickets.errors import UserError
from tf_tickets.models.graph import graph_of
from tf_tickets.structured.compaction import compact, fold_norms
from tf_tickets.structured.cost import parameters

layers = keras.layers


NETWORKS = {
    "chain": killing.chain,
    "smooth_gates": killing.smooth_gates,
    "inverted_residuals": killing.inverted_residuals,
    "lenet_300_100": lambda: killing.lenet("lenet_300_100"),
    "lenet_conv": lambda: killing.lenet("lenet_conv"),
    "wide_resnet_10_1": lambda: networks.narrow("wide_resnet_10_1"),
    "squeeze_and_excite": networks.squeeze_and_excite,
    "dense_blocks": networks.dense_blocks,
    "depthwise_chain": networks.depthwise_chain,
    "flat_head": networks.flat_head,
    "residual": networks.residual,
    "foreign_layers": networks.foreign_layers,
}


def assert_same(actual, expected):
    """Up to float32's rounding."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def spread(logits):
    """How much of the logits depends on the image."""
    return np.std(logits, axis=0).max() / np.abs(logits).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_logits_stay(name):
    model, spreads, gone = NETWORKS[name](), [], 0
    original = model.get_weights()
    for seed in (1, 2):
        model.set_weights(original)
        kill(model, seed, share=0.2)
        inputs, weights = images(model), model.get_weights()
        logits = model(inputs).numpy()
        compaction = compact(model)
        assert_same(compaction.model(inputs), logits)
        spreads.append(spread(logits))
        gone += compaction.total
        for layer, count in compaction.removed.items():
            sizes = [each.get_layer(layer).output_shape[-1] for each in (model, compaction.model)]
            assert sizes[0] - sizes[1] == count > 0
        for before, after in zip(weights, model.get_weights(), strict=True):
            np.testing.assert_array_equal(before, after)
    assert gone >= 2 and parameters(compaction.model) <= parameters(model)
    assert max(spreads) > 1e-3  # Not all images became alike.


def test_a_narrow_resnet():
    model = kill(networks.narrow("resnet_20"), seed=2, share=0.1)
    logits = model(images(model)).numpy()
    compaction = compact(model)
    assert_same(compaction.model(images(model)), logits)
    assert spread(logits) > 1e-3
    assert compaction.total >= 3 and parameters(compaction.model) < parameters(model)
    assert compaction.model.name == model.name
    names = [layer.name for layer in model.layers if type(layer) is not layers.BatchNormalization]
    assert [layer.name for layer in compaction.model.layers] == names
    assert not compact(compaction.model).removed


@pytest.mark.parametrize("name", ["chain", "inverted_residuals", "dense_blocks"])
def test_nothing_goes_from_a_dense_network(name):
    model = NETWORKS[name]()
    compaction = compact(model)
    assert compaction.removed == {} and compaction.total == 0
    assert_same(compaction.model(images(model)), model(images(model)))
    for layer in compaction.model.layers:
        assert layer.output_shape == model.get_layer(layer.name).output_shape


def needed(model):
    """Layer → which of its channels matter, as measured on a network without zero padding.

    A channel matters if some convolution or dense layer reads of it what depends on the image,
    and what the logits depend on. Both are tried out.
    """
    output, inputs = graph_of(model).output, images(model)
    generator = np.random.default_rng(0)
    reads, makes = {}, {}

    def record(kept):
        def change(name, tensor):
            kept[name] = np.array(tensor)
            return tensor

        return change

    def noise_in(channel, layer, others=None):
        """Replaces a channel of one layer, and what the other layers have if `others` is given."""

        def change(name, tensor):
            if name != layer:
                return others[name] if others else tensor
            noisy = np.array(tensor)
            noisy[..., channel] = generator.normal(0, 3, noisy.shape[:-1])
            return noisy

        return change

    logits = tensors_of(model, inputs, record(reads), record(makes))[output].numpy()
    matters = {}
    for name, read in reads.items():
        matters[name] = np.ptp(read, axis=0).reshape(-1, read.shape[-1]).max(axis=0) > 1e-6
        for channel in np.flatnonzero(matters[name]):
            noisy_logits = tensors_of(model, inputs, noise_in(channel, name))[output]
            matters[name][channel] = np.any(noisy_logits != logits)
    alive = {name: np.full(made.shape[-1], False) for name, made in makes.items()}
    for name in alive:
        for channel in range(len(alive[name])):
            noisy = {}
            frozen = noise_in(channel, name, makes)
            noisy_logits = tensors_of(model, inputs, record(noisy), frozen)[output]
            carried = [np.any((noisy[each] != reads[each])[..., matters[each]]) for each in reads]
            alive[name][channel] = any(carried) or np.any(noisy_logits != logits)
    return alive


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", ["chain", "smooth_gates"])
def test_what_goes_is_what_does_not_matter(name, seed):
    model = kill(NETWORKS[name](), seed, share=0.25)
    expected = needed(model)
    if name == "smooth_gates":  # What is weighed, and the gate, go together.
        expected["gated"] |= expected["excite"]
        expected["excite"] = expected["gated"]
    assert any(0 < np.count_nonzero(alive) < len(alive) for alive in expected.values())
    smaller = compact(model).model
    for layer, alive in expected.items():
        left = smaller.get_layer(layer).output_shape[-1]
        assert left == max(1, np.count_nonzero(alive)), layer


def mlp(kernels, biases):
    """Linear layers `dense_1`, `dense_2`, ... with given weights."""
    image = x = layers.Input((len(kernels[0]),))
    for number, (kernel, bias) in enumerate(zip(kernels, biases, strict=True), start=1):
        layer = layers.Dense(len(kernel[0]), use_bias=bias is not None, name=f"dense_{number}")
        x = layer(x)
        layer.set_weights([np.array(each, float) for each in (kernel, bias) if each is not None])
    return keras.Model(image, x)


def weights_of(model, layer):
    return [weight.tolist() for weight in model.get_layer(layer).get_weights()]


def test_dead_units_by_hand():
    # Of four hidden units the second is always 3, the third is not read.
    model = mlp(
        [[[1, 0, 2, 3], [4, 0, 5, 6]], [[1, 2], [3, 4], [0, 0], [5, 6]]],
        [[1, 3, 2, 4], [10, 20]],
    )
    compaction = compact(model)
    assert compaction.removed == {"dense_1": 2} and compaction.total == 2
    assert weights_of(compaction.model, "dense_1") == [[[1, 3], [4, 6]], [1, 4]]
    assert weights_of(compaction.model, "dense_2") == [[[1, 2], [5, 6]], [10 + 9, 20 + 12]]


def test_what_fed_the_dead_dies_too_and_what_the_dead_fed():
    model = mlp(
        [
            [[1, 0, 2], [1, 0, 3]],  # The second is always 5.
            [[1, 0, 0], [0, 2, 0], [0, 0, 7]],  # So the second is always 2 · 5 + 1.
            [[1, 0], [3, 0], [0, 4]],  # Only the second reads the third.
            [[2, 1], [0, 0]],  # It is not read.
        ],
        [[1, 5, 1], [0, 1, 0], [1, 1], [7, 8]],
    )
    smaller = compact(model)
    assert smaller.removed == {"dense_1": 2, "dense_2": 2, "dense_3": 1}
    expected = [([[1], [1]], [1]), ([[1]], [0]), ([[1]], [1 + 3 * 11]), ([[2, 1]], [7, 8])]
    for number, (kernel, bias) in enumerate(expected, start=1):
        assert weights_of(smaller.model, f"dense_{number}") == [kernel, bias]


def test_a_layer_without_a_bias_gets_one_only_to_take_something_over():
    kernels = [[[1, 0], [1, 0]], [[1, 2], [3, 4]]]
    taken_over = compact(mlp(kernels, [[0, 2], None])).model
    assert weights_of(taken_over, "dense_2") == [[[1, 2]], [6, 8]]
    nothing = compact(mlp(kernels, [None, None])).model
    assert weights_of(nothing, "dense_2") == [[[1, 2]]]


def test_each_layer_keeps_a_unit_when_all_are_dead():
    generator = np.random.default_rng(0)
    kernels = [generator.normal(size=shape) for shape in ((3, 5), (5, 4), (4, 2))]
    kernels[1][:] = 0
    biases = [generator.normal(size=size) for size in (5, 4, 2)]
    compaction = compact(mlp(kernels, biases))
    assert compaction.removed == {"dense_1": 4, "dense_2": 3}
    expected = np.tile(biases[1] @ kernels[2] + biases[2], (6, 1))
    np.testing.assert_allclose(compaction.model(generator.normal(size=(6, 3))), expected, 1e-5)


def test_the_unit_that_a_dead_layer_keeps_adds_nothing_to_what_was_taken_over():
    model = killing.chain()
    set_zero(model, "second", np.s_[:])  # All of it is softplus(0).
    compaction = compact(model)
    assert compaction.removed == {"first": 4, "second": 5, "hidden": 6}
    assert_same(compaction.model(images(model)), model(images(model)))


@pytest.mark.parametrize(
    "padding, size, bias, stays",
    [
        ("same", 3, 0.5, True),
        ("same", 3, -0.5, False),  # Nothing is left of it after the ReLU.
        ("same", 1, 0.5, False),
        ("valid", 3, 0.5, False),
    ],
)
def test_a_constant_stays_where_padding_shows_it(padding, size, bias, stays):
    image = layers.Input((6, 6, 2))
    x = layers.Conv2D(3, 3, padding="same", activation="relu", name="dead")(image)
    x = layers.Conv2D(4, size, padding=padding, name="reader")(x)
    logits = layers.Dense(3, name="logits")(layers.Flatten()(x))
    model = networks.randomised(keras.Model(image, logits))
    kernel, biases = model.get_layer("dead").get_weights()
    kernel[..., 1], biases[1] = 0, bias
    model.get_layer("dead").set_weights([kernel, biases])
    compaction = compact(model)
    assert compaction.removed == ({} if stays else {"dead": 1})
    assert_same(compaction.model(images(model)), model(images(model)))


def test_a_channel_of_a_residual_stream_goes_from_all_that_add_to_it():
    model = networks.residual()
    set_zero(model, "logits", np.s_[2])
    for number in range(1, 5):
        set_zero(model, f"conv_{number}_1", np.s_[:, :, 2])
    compaction = compact(model)
    assert compaction.removed == {"stem": 1} | {f"conv_{number}_2": 1 for number in range(1, 5)}
    assert_same(compaction.model(images(model)), model(images(model)))


def test_a_channel_of_a_residual_stream_stays_for_one_reader_but_not_for_itself():
    model = networks.residual()
    set_zero(model, "logits", np.s_[2])
    for number in (1, 2, 4):
        set_zero(model, f"conv_{number}_1", np.s_[:, :, 2])
    assert compact(model).removed == {}
    set_zero(model, "conv_3_2", np.s_[..., [0, 1, 3]])  # What reads it, feeds it alone.
    model.get_layer("conv_3_2").bias.assign(np.zeros(4))
    compaction = compact(model)
    assert compaction.removed["stem"] == 1 and compaction.removed["conv_3_1"] == 4
    assert_same(compaction.model(images(model)), model(images(model)))


def test_what_a_gate_always_closes_goes_though_it_changes():
    image = layers.Input((5, 5, 3))
    x = layers.Conv2D(4, 3, name="gated")(image)
    gate = layers.Conv2D(4, 3, activation="relu", name="gate")(image)
    x = layers.Multiply()([x, gate])
    logits = layers.Dense(2, name="logits")(layers.GlobalAveragePooling2D()(x))
    model = networks.randomised(keras.Model(image, logits))
    set_zero(model, "gate", np.s_[..., 1])
    model.get_layer("gate").bias.assign([0.5, -0.5, 0.5, 0.5])
    compaction = compact(model)
    assert compaction.removed == {"gated": 1, "gate": 1}
    assert_same(compaction.model(images(model)), model(images(model)))


def test_layers_that_are_not_understood_keep_what_they_touch():
    model = kill(networks.foreign_layers(), seed=1, share=0.4)
    assert set(compact(model).removed) == {"free", "free_too"}


@pytest.mark.parametrize(
    "name, left",
    [
        ("inverted_residuals", set()),
        ("depthwise_chain", set()),
        ("dense_blocks", {"norm_1", "norm_2", "norm_3"}),
        ("flat_head", {"norm"}),
    ],
)
def test_norms_are_folded(name, left):
    model = kill(NETWORKS[name](), seed=1, share=0.05)
    folded = fold_norms(model)
    assert_same(folded(images(model)), model(images(model)))
    assert norms_of(folded) == left
    for layer in folded.layers:
        if layer.weights and layer.name not in left:
            kernel = model.get_layer(layer.name).get_weights()[0]
            np.testing.assert_array_equal(layer.get_weights()[0] == 0, kernel == 0)


def norms_of(model):
    return {layer.name for layer in model.layers if type(layer) is layers.BatchNormalization}


def test_only_norms_that_alone_read_a_linear_layer_are_folded():
    image = layers.Input((5, 5, 3))
    x = layers.BatchNormalization(name="of_the_image")(image)
    x = layers.Conv2D(4, 1, activation="tanh")(x)
    x = layers.BatchNormalization(name="after_an_activation")(x)
    x = layers.DepthwiseConv2D(1, activation="tanh")(x)
    x = layers.BatchNormalization(name="after_another")(x)
    x = layers.Conv2D(5, 1)(x)
    x = layers.BatchNormalization(axis=1, name="of_the_rows")(x)
    x = layers.Conv2D(4, 1)(x)
    y = layers.BatchNormalization(name="beside_a_reader")(x)
    x = layers.Conv2D(4, 1)(layers.Add()([x, y]))
    x = layers.BatchNormalization(name="folded")(x)
    x = layers.Conv2D(4, 1, use_bias=False)(x)
    x = layers.BatchNormalization(name="folded_at_the_end", scale=False, center=False)(x)
    model = networks.randomised(keras.Model(image, x))
    folded = fold_norms(model)
    assert_same(folded(images(model)), model(images(model)))
    assert norms_of(model) - norms_of(folded) == {"folded", "folded_at_the_end"}


def test_a_model_of_two_inputs_is_refused():
    inputs = [layers.Input((3,)), layers.Input((3,))]
    model = keras.Model(inputs, layers.Dense(2)(layers.Add()(inputs)))
    for function in (compact, fold_norms):
        with pytest.raises(UserError, match="one input and one output"):
            function(model)
