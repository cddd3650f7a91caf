"""The hard-concrete distribution against its closed forms, and layers masked by it."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.noise import mirrored
from tf_tickets.masking.hard_concrete import (
    INITIAL_LOG_ALPHA,
    HardConcrete,
    HardConcreteMask,
    mean_expected_l0,
    wrap_layers,
)
from tf_tickets.models.weights import weight_path

LOCATIONS = [-4.0, -1.0, 0.0, INITIAL_LOG_ALPHA, 3.0]
DRAWS = 200_000


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def at_most(threshold, log_alpha):
    """P(m ≤ threshold), from Equations 1 to 3 by hand; threshold in [0, 1)."""
    s = (threshold + 0.1) / 1.2
    return sigmoid(2 / 3 * math.log(s / (1 - s)) - log_alpha)


def assert_share(holds, probability):
    """Within five standard deviations of a binomial share."""
    bound = 5 * math.sqrt(probability * (1 - probability) / holds.size)
    assert abs(np.mean(holds) - probability) < bound


def masked_dense(inputs=4, units=3, granularity="weight", **options):
    """A masked dense layer with random weights and locations."""
    dense = keras.layers.Dense(units, name="dense")
    dense.build(tf.TensorShape([None, inputs]))
    mask = HardConcreteMask(dense, granularity, **options)
    generator = np.random.default_rng(0)
    for weight in mask.weights:
        weight.assign(generator.normal(size=weight.shape))
    return mask


# The distribution


@pytest.mark.parametrize("log_alpha", LOCATIONS)
def test_samples_have_the_closed_form_probabilities(log_alpha):
    noise = np.random.default_rng(5).uniform(size=DRAWS).astype(np.float32)
    samples = HardConcrete().sample(tf.fill(DRAWS, log_alpha), noise).numpy()
    assert samples.min() >= 0 and samples.max() <= 1
    assert_share(samples == 0, at_most(0.0, log_alpha))
    assert_share(samples < 1, at_most(1.0 - 1e-9, log_alpha))
    assert_share(samples <= 0.3, at_most(0.3, log_alpha))


@pytest.mark.parametrize("log_alpha", LOCATIONS)
def test_the_layer_s_own_noise_is_uniform(log_alpha):
    mask = masked_dense(500, DRAWS // 500)
    mask.log_alpha.assign(tf.fill(mask.log_alpha.shape, log_alpha))
    samples = mask.sample().numpy()
    assert_share(samples == 0, at_most(0.0, log_alpha))
    assert_share(samples == 1, 1 - at_most(1.0 - 1e-9, log_alpha))


@pytest.mark.parametrize("log_alpha", LOCATIONS)
def test_probabilities(log_alpha):
    distribution, location = HardConcrete(), tf.constant([log_alpha])
    nonzero = distribution.probability_nonzero(location).numpy()
    assert nonzero == pytest.approx(1 - at_most(0.0, log_alpha), abs=1e-6)
    one = distribution.probability_one(location).numpy()
    assert one == pytest.approx(1 - at_most(1 - 1e-12, log_alpha), abs=1e-6)


def test_another_distribution():
    noise = np.random.default_rng(6).uniform(size=DRAWS).astype(np.float32)
    distribution, location = HardConcrete(0.5, -0.2, 1.4), tf.fill(DRAWS, 0.7)
    samples = distribution.sample(location, noise).numpy()
    # s / (1 − s) is 0.2 / 1.4 where the mask becomes 0, and 1.2 / 0.4 where it becomes 1.
    assert_share(samples == 0, sigmoid(0.5 * math.log(0.2 / 1.4) - 0.7))
    assert_share(samples == 1, sigmoid(0.7 - 0.5 * math.log(1.2 / 0.4)))
    nonzero = 1 - sigmoid(0.5 * math.log(0.2 / 1.4) - 0.7)
    assert distribution.probability_nonzero(location)[0].numpy() == pytest.approx(nonzero)
    one = sigmoid(0.7 - 0.5 * math.log(3.0))
    assert distribution.probability_one(location)[0].numpy() == pytest.approx(one)


def test_gates():
    gates = HardConcrete().gate(tf.constant([INITIAL_LOG_ALPHA, 0.0, 1.0, -2.3, -2.5, 2.5]))
    # 5/6 · 1.2 − 0.1, and σ(−2.5) = 0.076 < 0.1 / 1.2 < 0.091 = σ(−2.3).
    expected = [0.9, 0.5, 0.7310586 * 1.2 - 0.1, 0.0911230 * 1.2 - 0.1, 0.0, 1.0]
    np.testing.assert_allclose(gates, expected, atol=1e-6)
    assert gates[4] == 0 and gates[5] == 1


@pytest.mark.parametrize("function", ["sample", "gate"])
def test_gradients_by_finite_differences(function):
    generator = np.random.default_rng(2)
    locations, noise = generator.normal(0, 2, 400), generator.uniform(size=400)
    arguments = [noise] if function == "sample" else []

    def values(shift=0.0):
        return getattr(HardConcrete(), function)(tf.constant(locations + shift), *arguments).numpy()

    location = tf.Variable(locations)
    with tf.GradientTape() as tape:
        masks = getattr(HardConcrete(), function)(location, *arguments)
    gradients = tape.gradient(masks, location, tf.constant(generator.normal(size=400)))
    upstream = np.random.default_rng(2)
    upstream.normal(0, 2, 400), upstream.uniform(size=400)
    differences = (values(1e-6) - values(-1e-6)) / 2e-6
    np.testing.assert_allclose(gradients, upstream.normal(size=400) * differences, atol=1e-7)
    closed = (masks.numpy() == 0) | (masks.numpy() == 1)
    assert 0.1 < closed.mean() < 0.9 and np.all(gradients.numpy()[closed] == 0)


def test_extreme_noise_and_locations_stay_finite():
    noise = np.float32([2.0**-24, 1e-7, 0.5, 1 - 2.0**-24])
    locations, noise = np.meshgrid(np.float32([-1e4, -30, 0, 30, 1e4]), noise)
    location = tf.Variable(locations)
    with tf.GradientTape() as tape:
        masks = HardConcrete().sample(location, noise)
    assert np.all(np.isfinite(masks)) and np.all(np.isfinite(tape.gradient(masks, location)))
    assert np.all(masks[:, 0] == 0) and np.all(masks[:, -1] == 1)


# Equation 4


def test_the_regularizer_is_one_mean_over_the_masks_of_all_layers():
    small, large = masked_dense(1, 1), masked_dense(1, 3)
    small.log_alpha.assign([[0.5]])
    large.log_alpha.assign([[-1.0, 0.0, 2.0]])
    shift = 2 / 3 * math.log(11)  # −β log(−γ / ζ)
    probabilities = [sigmoid(x + shift) for x in (0.5, -1.0, 0.0, 2.0)]
    variables = [small.log_alpha, large.log_alpha]
    with tf.GradientTape() as tape:
        regularizer = mean_expected_l0([small, large])
    assert regularizer.numpy() == pytest.approx(sum(probabilities) / 4)
    assert large.expected_l0().numpy() == pytest.approx(sum(probabilities[1:]))
    assert (small.size, large.size) == (1, 3)
    gradients = np.concatenate([g.numpy().ravel() for g in tape.gradient(regularizer, variables)])
    np.testing.assert_allclose(gradients, [p * (1 - p) / 4 for p in probabilities], rtol=1e-5)


def test_a_shared_mask_counts_once():
    mask = masked_dense(5, 3, "neuron")
    mask.log_alpha.assign([[0.0, 1.0, 2.0]])
    expected = sum(sigmoid(x + 2 / 3 * math.log(11)) for x in (0.0, 1.0, 2.0))
    assert mask.expected_l0().numpy() == pytest.approx(expected)
    assert mask.size == 3


# The layer


@pytest.mark.parametrize("granularity, shape", [("weight", (4, 3)), ("neuron", (1, 3))])
def test_a_masked_layer_by_hand(granularity, shape):
    mask = masked_dense(granularity=granularity)
    kernel, bias = (weight.numpy() for weight in mask.layer.weights)
    inputs = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    gate = np.clip(1.2 / (1 + np.exp(-mask.log_alpha.numpy())) - 0.1, 0, 1)
    assert mask.log_alpha.shape == shape
    for outputs in (mask(inputs), mask(inputs, training=False)):
        np.testing.assert_allclose(outputs, inputs @ (kernel * gate) + bias, atol=1e-5)

    mask.reseed(3)
    sample = mask.sample().numpy()
    mask.reseed(3)
    with tf.GradientTape() as tape:
        outputs = mask(inputs, training=True)
    np.testing.assert_allclose(outputs, inputs @ (kernel * sample) + bias, atol=1e-5)
    # d Σ outputs / d m = Σ inputs · kernel, over all weights of a mask.
    slope = np.where((sample > 0) & (sample < 1), (sample + 0.1) * (1.1 - sample) * 1.25, 0)
    by_mask = inputs.sum(axis=0)[:, np.newaxis] * kernel
    by_mask = by_mask.sum(axis=0, keepdims=True) if granularity == "neuron" else by_mask
    np.testing.assert_allclose(tape.gradient(outputs, mask.log_alpha), by_mask * slope, atol=1e-4)
    np.testing.assert_array_equal(mask.kernel, kernel)
    assert mask.layer.kernel is mask.kernel


def test_masks_start_from_ln_5():
    dense = keras.layers.Dense(3)
    dense.build(tf.TensorShape([None, 4]))
    np.testing.assert_allclose(HardConcreteMask(dense).log_alpha, np.full((4, 3), math.log(5)))


def test_the_wrapped_layer_is_frozen():
    mask = masked_dense()
    inputs = tf.random.normal((5, 4))
    model = keras.Sequential([keras.layers.Input((4,)), mask, keras.layers.Dense(2)])
    model.trainable = True
    assert [weight_path(weight) for weight in mask.trainable_weights] == ["dense/log_alpha"]
    assert len(model.trainable_weights) == 1 + 2
    assert len(model.weights) == len(model.non_trainable_weights) + 3 == 5
    with tf.GradientTape() as tape:
        tape.watch(mask.layer.weights)
        outputs = mask(inputs, training=True)
    assert tape.gradient(outputs, mask.layer.weights) == [None, None]
    mask.trainable = False
    assert mask.trainable_weights == [] and len(mask.weights) == 3


def test_every_call_draws_anew_in_a_graph_s_loop():
    mask = masked_dense()
    inputs = tf.random.normal((5, 4))

    @tf.function
    def run(count):
        history = tf.TensorArray(tf.float32, size=count)
        for index in tf.range(count):
            history = history.write(index, mask(inputs, training=True))
        return history.stack()

    mask.reseed(1)
    first = run(tf.constant(4)).numpy()
    assert len(np.unique(first[:, 0, 0])) == 4
    mask.reseed(1)
    eager = [mask(inputs, training=True).numpy() for _ in range(4)]
    np.testing.assert_allclose(first, eager, atol=1e-6)
    assert not np.allclose(run(tf.constant(4)), first)


def test_layers_of_one_seed_draw_different_masks():
    model = keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(4), keras.layers.Dense(4)]
    )
    first, second = wrap_layers(model).layers
    for seed in (0, 1):
        first.reseed(seed)
        second.reseed(seed)
        assert not np.allclose(first.sample(), second.sample())


def test_a_checkpoint_continues_the_noise(tmp_path):
    mask = masked_dense()
    checkpoint = tf.train.Checkpoint(model=keras.Sequential([keras.layers.Input((4,)), mask]))
    mask.sample()
    path = checkpoint.save(str(tmp_path / "state"))
    expected = [mask.sample().numpy() for _ in range(2)]
    mask.reseed(8)
    checkpoint.restore(path).assert_existing_objects_matched()
    np.testing.assert_array_equal([mask.sample().numpy() for _ in range(2)], expected)


def test_half_precision():
    dense = keras.layers.Dense(3, dtype=keras.mixed_precision.Policy("mixed_bfloat16"))
    dense.build(tf.TensorShape([None, 4]))
    mask = HardConcreteMask(dense)
    with tf.GradientTape() as tape:
        outputs = mask(tf.ones((2, 4)), training=True)
    assert outputs.dtype == tf.bfloat16
    assert mask.log_alpha.dtype == tape.gradient(outputs, mask.log_alpha).dtype == tf.float32


def test_masked_time_steps_pass():
    mask = masked_dense()
    model = keras.Sequential([keras.layers.Embedding(5, 4, mask_zero=True), mask])
    assert model(tf.constant([[3, 1, 0]]))._keras_mask.numpy().tolist() == [[True, True, False]]


def test_a_layer_without_a_kernel_is_refused():
    norm = keras.layers.LayerNormalization(name="norm")
    with pytest.raises(ValueError, match="norm has no kernel to mask"):
        HardConcreteMask(norm)(tf.ones((2, 3)))


def learned_locations(strategy, inputs):
    """log α after two steps, each of two passes over the inputs, divided among the replicas."""
    shares = tf.stack(tf.split(inputs, strategy.num_replicas_in_sync))
    with strategy.scope():
        mask = masked_dense(seed=2)

    def gradient_of_share():
        share = shares[tf.distribute.get_replica_context().replica_id_in_sync_group]
        total = tf.zeros(mask.log_alpha.shape)
        for _ in tf.range(2):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(mask(share, training=True) ** 2)
            total += tape.gradient(loss, mask.log_alpha)
        return total

    @tf.function
    def step():
        gradient = strategy.reduce("SUM", strategy.run(gradient_of_share), axis=None)
        mask.log_alpha.assign_sub(0.01 * gradient)

    step()
    step()
    return mask.log_alpha.numpy()


def test_replicas_share_their_masks_and_so_train_as_one():
    inputs = np.random.default_rng(4).normal(size=(6, 4)).astype(np.float32)
    alone = learned_locations(tf.distribute.OneDeviceStrategy("CPU:0"), inputs)
    assert np.abs(alone - masked_dense().log_alpha).min() > 0
    np.testing.assert_allclose(learned_locations(mirrored(), inputs), alone, atol=1e-5)
