"""AdamW against its definition in NumPy, against PyTorch's, and on two devices."""

import numpy as np
import pytest
import tensorflow as tf

from tests.noise import mirrored
from tf_tickets.training.adamw import AdamW

STEPS, BETA_1, BETA_2, EPSILON, DECAY = 20, 0.9, 0.999, 1e-8, 0.3
SHAPES = {"query/kernel": (3, 4), "query/bias": (4,), "norm/gamma": (3,), "norm/beta": (3,)}
DECAYED = {"query/kernel"}


def random_run(scale=1.0):
    """Starts of the variables, their gradients at each step, and the learning rates."""
    random = np.random.default_rng(0)
    starts = {name: random.normal(size=shape) for name, shape in SHAPES.items()}
    gradients = [
        {name: scale * random.normal(size=shape) for name, shape in SHAPES.items()}
        for _ in range(STEPS)
    ]
    # Tiny gradients, for which it matters where ε is added.
    for step in gradients:
        step["query/kernel"][0] *= 1e-8
    return starts, gradients, np.linspace(0.0, 0.1, STEPS)


def numpy_adamw(starts, gradients, rates, clip=np.inf):
    """Loshchilov and Hutter's Algorithm 2, in double precision."""
    weights = {name: start.copy() for name, start in starts.items()}
    first, second = ({name: 0.0 for name in weights} for _ in range(2))
    for step, (by_name, rate) in enumerate(zip(gradients, rates), start=1):
        for name, gradient in by_name.items():
            gradient = np.clip(gradient, -clip, clip)
            first[name] = BETA_1 * first[name] + (1 - BETA_1) * gradient
            second[name] = BETA_2 * second[name] + (1 - BETA_2) * gradient**2
            corrected = first[name] / (1 - BETA_1**step)
            root = np.sqrt(second[name] / (1 - BETA_2**step))
            decay = DECAY * weights[name] if name in DECAYED else 0.0
            weights[name] = weights[name] - rate * (decay + corrected / (root + EPSILON))
    return weights


def make_variables(starts):
    return {name: tf.Variable(start.astype("float32"), name=name) for name, start in starts.items()}


def train(optimizer, variables, gradients, rates):
    for by_name, rate in zip(gradients, rates):
        optimizer.learning_rate.assign(rate)
        pairs = [(tf.constant(by_name[name], tf.float32), variables[name]) for name in variables]
        optimizer.apply_gradients(pairs)


def assert_equal(variables, expected):
    for name, weights in expected.items():
        np.testing.assert_allclose(variables[name], weights, rtol=1e-5, atol=1e-6, err_msg=name)


def test_steps_equal_the_algorithm():
    starts, gradients, rates = random_run()
    variables = make_variables(starts)
    train(AdamW(1.0, DECAY), variables, gradients, rates)
    assert_equal(variables, numpy_adamw(starts, gradients, rates))


def test_steps_equal_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is the other implementation")
    starts, gradients, rates = random_run()
    variables = make_variables(starts)
    train(AdamW(1.0, DECAY), variables, gradients, rates)
    theirs = {name: torch.nn.Parameter(torch.tensor(start)) for name, start in starts.items()}
    groups = [
        {"params": [theirs[name]], "weight_decay": DECAY if name in DECAYED else 0.0}
        for name in theirs
    ]
    optimizer = torch.optim.AdamW(groups)
    for by_name, rate in zip(gradients, rates):
        for name, parameter in theirs.items():
            parameter.grad = torch.tensor(by_name[name])
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    assert_equal(variables, {name: weight.detach().numpy() for name, weight in theirs.items()})


def test_what_is_not_decayed_is_the_callers_choice():
    starts, gradients, rates = random_run()
    variables = make_variables(starts)
    train(AdamW(1.0, DECAY, undecayed=["kernel"]), variables, gradients, rates)
    undecayed = numpy_adamw(starts, gradients, rates)
    assert np.abs(variables["query/bias"] - undecayed["query/bias"]).max() > 0.1


@pytest.mark.parametrize("clip", [None, 1.0])
def test_two_devices_clip_the_sum_of_their_gradients(clip):
    """One of them alone has a gradient beyond the bounds that the other's takes back."""
    starts, gradients, rates = random_run()
    strategy, seconds = mirrored(), random_run(scale=3.0)[1][::-1]
    with strategy.scope():
        variables = make_variables(starts)
        optimizer = AdamW(1.0, DECAY, clip_value=clip)

    @tf.function
    def step(*shares):
        def on_replica():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            own = [tf.gather(share, replica) for share in shares]
            optimizer.apply_gradients(zip(own, variables.values()))

        strategy.run(on_replica)

    for one, other, rate in zip(gradients, seconds, rates):
        optimizer.learning_rate.assign(rate)
        step(*(tf.constant([one[name], other[name]], tf.float32) for name in SHAPES))
    sums = [
        {name: one[name] + other[name] for name in SHAPES} for one, other in zip(gradients, seconds)
    ]
    expected = numpy_adamw(starts, sums, rates, np.inf if clip is None else clip)
    for replica in strategy.experimental_local_results(variables):
        assert_equal(replica, expected)
    copies = strategy.experimental_local_results(variables["query/kernel"])
    assert len(copies) == 2
    np.testing.assert_array_equal(*copies)


def test_a_checkpoint_holds_all_that_the_next_steps_need(tmp_path):
    starts, gradients, rates = random_run()
    whole, parts = make_variables(starts), make_variables(starts)
    train(AdamW(1.0, DECAY), whole, gradients, rates)

    optimizer = AdamW(1.0, DECAY)
    train(optimizer, parts, gradients[:7], rates[:7])
    path = tf.train.Checkpoint(optimizer=optimizer, **rename(parts)).write(str(tmp_path / "state"))
    fresh, again = AdamW(1.0, DECAY), make_variables(starts)
    fresh._create_all_weights(list(again.values()))
    restored = tf.train.Checkpoint(optimizer=fresh, **rename(again)).read(path)
    restored.assert_existing_objects_matched()
    train(fresh, again, gradients[7:], rates[7:])
    for name, variable in whole.items():
        np.testing.assert_array_equal(variable, again[name])


def rename(variables):
    return {name.replace("/", "_"): variable for name, variable in variables.items()}


def test_its_configuration_builds_it_again():
    optimizer = AdamW(0.1, 0.01, undecayed=["bias"], clip_value=1.0, epsilon=1e-6)
    again = AdamW.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()


def test_sparse_gradients_are_refused():
    table = tf.Variable(tf.ones([4, 2]))
    gradient = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([3]), tf.constant([4, 2]))
    with pytest.raises(NotImplementedError, match="dense"):
        AdamW(0.1, 0.01).apply_gradients([(gradient, table)])
