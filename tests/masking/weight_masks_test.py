"""Masks held by TF-MOT, against NumPy."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tf_tickets.masking.ticket import Provenance, Ticket
from tf_tickets.masking.weight_masks import ConvolutionMasks, GradualMasks, WeightMasks

PROVENANCE = Provenance("original", "tiny", {}, "none", 0, 0, "", "", {})
SHAPES = {"convolution/kernel": (3, 3, 1, 4), "logits/kernel": (64, 3)}


def tiny_model():
    """A convolution and a dense layer, with biases and BatchNorm, which are never masked."""
    return keras.Sequential(
        [
            keras.layers.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, activation="relu", name="convolution"),
            keras.layers.BatchNormalization(name="normalization"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, bias_initializer="ones", name="logits"),
        ]
    )


def dense_model(shape):
    """A single kernel."""
    return keras.Sequential(
        [
            keras.layers.Input((shape[0],)),
            keras.layers.Dense(shape[1], use_bias=False, name="dense"),
        ]
    )


def make_ticket(masks):
    return Ticket({path: np.asarray(mask, bool) for path, mask in masks.items()}, PROVENANCE)


def random_masks(seed, density=0.5, shapes=SHAPES):
    generator = np.random.default_rng(seed)
    return {path: generator.random(shape) < density for path, shape in shapes.items()}


def assign_kernels(masks, kernels):
    for path, variable in masks.weights.items():
        variable.assign(kernels[path])


def read_kernels(masks):
    return {path: variable.numpy() for path, variable in masks.weights.items()}


def brute_force(kernel, mask, keep):
    """The remaining weights sorted by magnitude; equal ones in row-major order."""
    candidates = [(-abs(float(kernel[i])), i) for i in np.ndindex(mask.shape) if mask[i]]
    kept = {index for _, index in sorted(candidates)[:keep]}
    return np.array([i in kept for i in np.ndindex(mask.shape)]).reshape(mask.shape)


@pytest.fixture(scope="module")
def shared():
    """A tiny model and its masks, for tests that set all that they use."""
    model = tiny_model()
    return model, WeightMasks(model)


def test_kernels_are_masked_and_nothing_else(shared):
    model, masks = shared
    assert masks.shapes == SHAPES
    assert masks.weights["logits/kernel"] is model.get_layer("logits").kernel
    fresh = WeightMasks(tiny_model()).read()
    assert {path: mask.shape for path, mask in fresh.items()} == SHAPES
    assert all(mask.dtype == bool and mask.all() for mask in fresh.values())


def test_the_model_itself_is_left_as_it_is(shared):
    model, masks = shared
    names = [layer.name for layer in model.layers]
    assert names[0] == "convolution" and names[-1] == "logits"
    assert len(model.weights) == 2 + 4 + 2
    kernels = {path: np.full(shape, 2.0, np.float32) for path, shape in SHAPES.items()}
    assign_kernels(masks, kernels)
    masks.assign(random_masks(0))
    before = read_kernels(masks)
    assign_kernels(masks, kernels)
    images = tf.ones((2, 6, 6, 1))
    model(images, training=True)
    model(images, training=False)
    # Calling the model does not mask; apply() does.
    assert all(np.all(kernel == 2) for kernel in read_kernels(masks).values())
    masks.apply()
    for path, kernel in read_kernels(masks).items():
        np.testing.assert_array_equal(kernel, before[path])


def test_assigned_masks_are_read_back_and_applied(shared):
    model, masks = shared
    kernels = {
        path: np.random.default_rng(1).normal(size=shape).astype(np.float32)
        for path, shape in SHAPES.items()
    }
    others = {
        weight.name: weight.numpy() for weight in model.weights if "kernel" not in weight.name
    }
    for seed in range(3):
        wanted = random_masks(seed)
        assign_kernels(masks, kernels)
        masks.assign(wanted)
        for path, mask in masks.read().items():
            assert mask.dtype == bool
            np.testing.assert_array_equal(mask, wanted[path])
        for path, kernel in read_kernels(masks).items():
            np.testing.assert_array_equal(kernel, np.where(wanted[path], kernels[path], 0))
    for weight in model.weights:
        if weight.name in others:
            np.testing.assert_array_equal(weight, others[weight.name])
    assert np.all(model.get_layer("logits").bias.numpy() == 1)


def test_masks_read_are_copies(shared):
    _, masks = shared
    masks.assign({path: np.ones(shape, bool) for path, shape in SHAPES.items()})
    read = masks.read()
    for mask in read.values():
        mask[:] = False
    assert all(mask.all() for mask in masks.read().values())


def test_applying_in_a_graph_zeroes_what_an_optimizer_moved(shared):
    _, masks = shared
    wanted = random_masks(4)
    assign_kernels(masks, {path: np.ones(shape) for path, shape in SHAPES.items()})
    masks.assign(wanted)

    @tf.function
    def steps(count):
        for _ in tf.range(count):
            for variable in masks.weights.values():
                variable.assign_add(tf.ones_like(variable))
            masks.apply()

    steps(tf.constant(3))
    for path, kernel in read_kernels(masks).items():
        np.testing.assert_array_equal(kernel, np.where(wanted[path], 4.0, 0.0))
        np.testing.assert_array_equal(masks.read()[path], wanted[path])


def test_two_rounds_by_hand():
    masks = WeightMasks(dense_model((2, 3)))
    assign_kernels(masks, {"dense/kernel": [[0.5, -0.1, 0.3], [-0.4, 0.2, -0.6]]})
    ticket = make_ticket({"dense/kernel": np.ones((2, 3))})

    # |w| = .6 .5 .4 .3 | .2 .1
    kept = masks.prune_by_magnitude(ticket, {"dense/kernel": 4})
    assert kept["dense/kernel"].tolist() == [[True, False, True], [True, False, True]]

    # Training goes on; the pruned weights are given values that would win if they counted.
    assign_kernels(masks, {"dense/kernel": [[0.05, 0.9, -0.7], [0.3, -0.8, -0.2]]})
    kept = masks.prune_by_magnitude(make_ticket(kept), {"dense/kernel": 2})
    assert kept["dense/kernel"].tolist() == [[False, False, True], [True, False, False]]
    # The model is left as the first round's ticket has it.
    expected = np.array([[0.05, 0.0, -0.7], [0.3, 0.0, -0.2]], np.float32)
    np.testing.assert_array_equal(read_kernels(masks)["dense/kernel"], expected)
    assert masks.read()["dense/kernel"].tolist() == [[True, False, True], [True, False, True]]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["normal", "few values", "all equal", "zeros remain", "all zero"])
def test_it_is_a_brute_force_sort(shared, seed, kind):
    _, masks = shared
    generator = np.random.default_rng(seed)
    kernels = {}
    for path, shape in SHAPES.items():
        kernels[path] = {
            "normal": lambda shape=shape: generator.normal(size=shape),
            "few values": lambda shape=shape: generator.integers(-2, 3, shape) / 2,
            "all equal": lambda shape=shape: generator.choice([-0.25, 0.25], shape),
            "zeros remain": lambda shape=shape: (
                generator.normal(size=shape) * (generator.random(shape) < 0.3)
            ),
            "all zero": lambda shape=shape: np.zeros(shape),
        }[kind]().astype(np.float32)
    ticket = make_ticket(random_masks(seed + 50, 0.7))
    remaining = {path: int(mask.sum()) for path, mask in ticket.masks.items()}
    keep = {path: int(generator.integers(1, count)) for path, count in remaining.items()}
    assign_kernels(masks, kernels)

    kept = masks.prune_by_magnitude(ticket, keep)

    assert {path: int(mask.sum()) for path, mask in kept.items()} == keep
    assert make_ticket(kept).is_within(ticket)
    for path, mask in ticket.masks.items():
        np.testing.assert_array_equal(kept[path], brute_force(kernels[path], mask, keep[path]))
    # Weights and masks are those of the ticket again.
    for path, kernel in read_kernels(masks).items():
        np.testing.assert_array_equal(kernel, np.where(ticket.masks[path], kernels[path], 0))
        np.testing.assert_array_equal(masks.read()[path], ticket.masks[path])


def test_everything_or_nothing_can_be_kept(shared):
    _, masks = shared
    ticket = make_ticket(random_masks(8))
    assign_kernels(masks, {path: np.ones(shape) for path, shape in SHAPES.items()})
    everything = {path: int(mask.sum()) for path, mask in ticket.masks.items()}
    for path, mask in masks.prune_by_magnitude(ticket, everything).items():
        np.testing.assert_array_equal(mask, ticket.masks[path])
    for mask in masks.prune_by_magnitude(ticket, dict.fromkeys(SHAPES, 0)).values():
        assert not mask.any()


def test_more_than_remain_is_refused(shared):
    _, masks = shared
    ticket = make_ticket(random_masks(9))
    assign_kernels(masks, {path: np.ones(shape) for path, shape in SHAPES.items()})
    too_many = {path: int(mask.sum()) + 1 for path, mask in ticket.masks.items()}
    with pytest.raises(ValueError, match="cannot keep"):
        masks.prune_by_magnitude(ticket, too_many)


def test_counts_are_exact_for_every_number_of_weights():
    # 1 - k / n in single precision must not round to another count.
    masks = WeightMasks(dense_model((13, 7)))
    kernel = np.random.default_rng(0).permutation(np.arange(1, 92)).reshape(13, 7)
    ticket = make_ticket({"dense/kernel": np.ones((13, 7))})
    for keep in range(1, 92):
        assign_kernels(masks, {"dense/kernel": kernel})
        kept = masks.prune_by_magnitude(ticket, {"dense/kernel": keep})["dense/kernel"]
        np.testing.assert_array_equal(kept, kernel > 91 - keep)


SIZE = (40, 25)
KEEP = 123


def gradual_masks(iterations, keep=KEEP):
    """Masks over one kernel of the magnitudes 1, 2, … 1000 in random places, and the kernel."""
    masks = GradualMasks(dense_model(SIZE), {"dense/kernel": keep}, iterations)
    generator = np.random.default_rng(3)
    magnitudes = generator.permutation(np.arange(1, 1001)).reshape(SIZE)
    kernel = (magnitudes * generator.choice([-1, 1], SIZE)).astype(np.float32)
    assign_kernels(masks, {"dense/kernel": kernel})
    return masks, kernel


def masks_at_each_step(masks, iterations):
    """Mask of the single kernel after each step, from one graph."""
    (variable,) = (variable for variable in masks.variables if "mask" in variable.name)

    @tf.function
    def run():
        history = tf.TensorArray(tf.float32, size=iterations)
        for index in tf.range(iterations):
            masks.apply()
            history = history.write(index, variable.read_value())
        return history.stack()

    return run().numpy() > 0


@pytest.mark.parametrize(
    "iterations, updates",
    [
        # Iteration → how far the decay has come. Every 100 steps until 3/4 of the training.
        (400, {0: 0, 100: 1 / 3, 200: 2 / 3, 300: 1}),
        (500, {75: 0, 175: 1 / 3, 275: 2 / 3, 375: 1}),
        (134, {0: 0, 100: 1}),
        (90, {0: 0, 67: 1}),
        (2, {0: 0, 1: 1}),
    ],
)
def test_sparsity_follows_the_cubic_formula(iterations, updates):
    masks, kernel = gradual_masks(iterations)
    history = masks_at_each_step(masks, iterations)
    final_sparsity = 1 - KEEP / 1000
    expected = 1000
    for iteration in range(iterations):
        if iteration in updates:
            sparsity = final_sparsity * (1 - (1 - updates[iteration]) ** 3)
            expected = math.floor(1000 * (1 - sparsity) + 0.5)
        # The largest magnitudes are those above 1000 - expected.
        np.testing.assert_array_equal(history[iteration], np.abs(kernel) > 1000 - expected)
    assert expected == KEEP == history[-1].sum()
    np.testing.assert_array_equal(read_kernels(masks)["dense/kernel"], kernel * history[-1])
    assert np.all(np.diff(history.astype(int), axis=0) <= 0)  # Nested.


@pytest.mark.parametrize("keep", [1, 2, 37, 500, 513, 999])
def test_final_counts_are_exact(keep):
    masks, kernel = gradual_masks(8, keep)
    for _ in range(8):
        masks.apply()
    np.testing.assert_array_equal(masks.read()["dense/kernel"], np.abs(kernel) > 1000 - keep)


def test_layers_have_their_own_final_counts():
    keep = {"convolution/kernel": 9, "logits/kernel": 40}
    model = tiny_model()
    masks = GradualMasks(model, keep, 8)
    kernels = {
        path: np.random.default_rng(1).normal(size=shape).astype(np.float32)
        for path, shape in SHAPES.items()
    }
    assign_kernels(masks, kernels)
    for _ in range(8):
        masks.apply()
    for path, mask in masks.read().items():
        expected = brute_force(kernels[path], np.ones(SHAPES[path], bool), keep[path])
        np.testing.assert_array_equal(mask, expected)
    assert np.all(model.get_layer("logits").bias.numpy() == 1)


def test_masks_stay_between_the_updates():
    masks, kernel = gradual_masks(400)
    history = masks_at_each_step(masks, 150)
    # A moved weight is masked again, and the mask does not follow until the next update.
    assign_kernels(masks, {"dense/kernel": -2 * kernel[::-1, ::-1]})
    masks.apply()
    np.testing.assert_array_equal(masks.read()["dense/kernel"], history[-1])
    np.testing.assert_array_equal(
        read_kernels(masks)["dense/kernel"], -2 * kernel[::-1, ::-1] * history[-1]
    )


def test_gradual_masks_never_take_a_pruned_weight_back():
    masks, kernel = gradual_masks(400)
    history = masks_at_each_step(masks, 150)
    pruned = ~history[-1]
    # The optimizer moves every pruned weight far, right before the update at step 200.
    for _ in range(150, 400):
        assign_kernels(masks, {"dense/kernel": np.where(pruned, np.float32(5000), kernel)})
        masks.apply()
    final = masks.read()["dense/kernel"]
    assert final.sum() == KEEP and not np.any(final & pruned)


def convolutional_model():
    """Convolutions of three kinds, each before a BatchNorm, and a dense layer."""
    return keras.Sequential(
        [
            keras.layers.Input((6, 6, 2)),
            keras.layers.Conv2D(4, 3, name="convolution"),
            keras.layers.BatchNormalization(name="norm_1"),
            keras.layers.DepthwiseConv2D(3, name="depthwise"),
            keras.layers.Conv2D(3, 1, use_bias=False, name="shortcut"),
            keras.layers.BatchNormalization(name="norm_2"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, name="logits"),
        ]
    )


def test_convolution_masks_leave_norms_and_dense_layers_alone():
    model = convolutional_model()
    for weight in model.weights:
        weight.assign(tf.ones_like(weight))
    masks = ConvolutionMasks(model)
    assert set(masks.shapes) == {"convolution/kernel", "shortcut/kernel"}
    masks.assign({path: np.zeros(shape, bool) for path, shape in masks.shapes.items()})
    masks.apply()
    for weight in model.weights:
        empty = weight.name in ("convolution/kernel:0", "shortcut/kernel:0")
        assert np.all(weight.numpy() == (0 if empty else 1)), weight.name
