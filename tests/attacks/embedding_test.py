"""FreeLB and PGD on word embeddings, against a linear model worked by hand in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tests.noise import mirrored
from tf_tickets.attacks.embedding import EmbeddingAttack, free_lb, natural, pgd
from tf_tickets.errors import UserError

WORDS, DIM, CLASSES = 9, 4, 3
LENGTHS = [5, 3, 1, 4]
TOKEN_IDS = np.array([[3, 1, 4, 1, 5], [2, 6, 5, 0, 0], [8, 0, 0, 0, 0], [7, 2, 2, 1, 0]])
LABELS = np.array([0, 2, 1, 2])
TOKEN_MASK = (np.arange(5) < np.array(LENGTHS)[:, None]).astype(np.float32)
NOISE = np.random.default_rng(1).uniform(-1, 1, [4, 5, DIM]).astype(np.float32)
FREE = EmbeddingAttack(step_size=0.4, init_magnitude=0.3, steps=4)
BOUND = EmbeddingAttack(step_size=0.4, init_magnitude=0.3, steps=4, bound=0.5)


class LinearModel:
    """Embeddings, summed with a weight a position, times a matrix; cross-entropy."""

    def __init__(self):
        random = np.random.default_rng(0)
        self.table = tf.Variable(random.normal(size=[WORDS, DIM]), dtype=tf.float32, name="table")
        self.kernel = tf.Variable(random.normal(size=[DIM, CLASSES]), dtype=tf.float32)
        self.positions = random.normal(size=5).astype(np.float32)
        self.seen = []  # Perturbed embeddings of each pass, where passes are not compiled.

    @property
    def variables(self):
        return [self.kernel, self.table]

    def embed(self):
        return tf.gather(self.table, TOKEN_IDS)

    def losses(self, embeddings):
        self.seen.append(embeddings)
        weights = (TOKEN_MASK * self.positions)[:, :, None]
        logits = tf.reduce_sum(embeddings * weights, axis=1) @ self.kernel
        return tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS, logits)

    @property
    def deltas(self):
        return [seen - self.embed() for seen in self.seen]


class NumpyModel:
    """The same, with gradients by hand and in double precision."""

    def __init__(self, model):
        self.table, self.kernel = (
            v.numpy().astype(np.float64) for v in (model.table, model.kernel)
        )
        self.weights = TOKEN_MASK * model.positions

    def at(self, delta):
        """Mean loss; gradients by kernel, table and embeddings."""
        embeddings = self.table[TOKEN_IDS] + delta
        sums = np.einsum("btd,bt->bd", embeddings, self.weights)
        logits = sums @ self.kernel
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        losses = -np.log(probabilities[np.arange(4), LABELS])
        by_logits = (probabilities - np.eye(CLASSES)[LABELS]) / 4
        by_embeddings = np.einsum("bd,bt->btd", by_logits @ self.kernel.T, self.weights)
        by_table = np.zeros_like(self.table)
        np.add.at(by_table, TOKEN_IDS, by_embeddings)
        return losses.mean(), sums.T @ by_logits, by_table, by_embeddings


def numpy_start(attack):
    scale = attack.init_magnitude / np.sqrt(np.array(LENGTHS) * DIM)
    return numpy_projected(NOISE * TOKEN_MASK[:, :, None] * scale[:, None, None], attack)


def numpy_step(delta, gradient, attack):
    norms = np.sqrt((gradient**2).sum(axis=(1, 2), keepdims=True))
    return numpy_projected(delta + attack.step_size * gradient / norms, attack)


def numpy_projected(delta, attack):
    norms = np.sqrt((delta**2).sum(axis=(1, 2), keepdims=True))
    return delta if attack.bound is None else delta * np.minimum(1, attack.bound / norms)


def norms_of(deltas):
    return np.sqrt(np.sum(np.square(deltas), axis=(2, 3)))


def call(objective, model, attack, variables=None):
    return objective(
        model.losses, variables or model.variables, model.embed, TOKEN_MASK, NOISE, attack
    )


def assert_result(found, loss, gradients):
    np.testing.assert_allclose(found[0], loss, rtol=1e-5)
    assert len(found[1]) == len(gradients)
    for gradient, expected in zip(found[1], gradients):
        assert isinstance(gradient, tf.Tensor)
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("attack", [FREE, BOUND])
def test_free_lb_takes_one_step_fewer_than_passes(attack):
    model = LinearModel()
    by_hand = NumpyModel(model)
    delta, deltas, passes = numpy_start(attack), [], []
    for step in range(attack.steps):
        if step:
            delta = numpy_step(delta, passes[-1][3], attack)
        deltas.append(delta)
        passes.append(by_hand.at(delta))
    loss, by_kernel, by_table = (np.mean([p[part] for p in passes], axis=0) for part in range(3))
    assert_result(call(free_lb, model, attack), loss, [by_kernel, by_table])
    np.testing.assert_allclose(model.deltas, deltas, atol=1e-5)


@pytest.mark.parametrize("attack", [FREE, BOUND])
def test_pgd_learns_from_the_last_perturbation_only(attack):
    model = LinearModel()
    by_hand = NumpyModel(model)
    deltas = [numpy_start(attack)]
    for _ in range(attack.steps):
        deltas.append(numpy_step(deltas[-1], by_hand.at(deltas[-1])[3], attack))
    loss, by_kernel, by_table, _ = by_hand.at(deltas[-1])
    assert_result(call(pgd, model, attack), loss, [by_kernel, by_table])
    np.testing.assert_allclose(model.deltas, deltas, atol=1e-5)


def test_natural_has_no_perturbation():
    model = LinearModel()
    loss, by_kernel, by_table, _ = NumpyModel(model).at(0.0)
    assert_result(call(natural, model, FREE), loss, [by_kernel, by_table])
    np.testing.assert_array_equal(model.deltas, np.zeros([1, 4, 5, DIM]))


@pytest.mark.parametrize("objective", [free_lb, pgd])
def test_perturbations_stay_in_the_ball_and_off_the_padding(objective):
    model = LinearModel()
    # The model itself reads padding, so that only the mask protects it.
    model.losses = lambda x: model.seen.append(x) or tf.reduce_sum(tf.tanh(x), axis=[1, 2])
    call(objective, model, EmbeddingAttack(0.4, 0.3, 6, bound=0.5), [model.table])
    deltas = np.array(model.deltas)
    assert not np.any(deltas[:, TOKEN_MASK == 0])
    assert np.all(np.any(deltas != 0, axis=-1)[:, TOKEN_MASK == 1])
    assert norms_of(deltas).max() <= 0.5 + 1e-5
    np.testing.assert_allclose(norms_of(deltas)[-1], 0.5, rtol=1e-5)


def test_a_start_outside_the_ball_is_projected():
    attack = EmbeddingAttack(0.1, init_magnitude=5.0, steps=1, bound=0.2)
    start = attack.start(NOISE, TOKEN_MASK)
    np.testing.assert_allclose(norms_of(start[None])[0], 0.2, rtol=1e-5)


def test_the_start_is_at_most_as_long_as_its_magnitude():
    largest = FREE.start(np.ones_like(NOISE), TOKEN_MASK)
    np.testing.assert_allclose(norms_of(largest[None])[0], FREE.init_magnitude, rtol=1e-5)


def test_an_example_without_a_gradient_or_without_tokens_stays_where_it_is():
    mask = TOKEN_MASK * [[1], [1], [0], [1]]
    start = FREE.start(NOISE, tf.constant(mask, tf.float32))
    assert not np.any(start[2])
    gradient = NOISE * np.float32([[[0]], [[1e-15]], [[1]], [[1]]])
    moved = FREE.step(start, tf.constant(gradient), tf.constant(mask, tf.float32)) - start
    lengths = norms_of(moved[None])[0]
    np.testing.assert_allclose(lengths, FREE.step_size * np.array([0, 1, 0, 1]), rtol=1e-5)


def test_a_stronger_attack_raises_the_loss():
    model = LinearModel()
    attacks = [EmbeddingAttack(size, 0.0, steps) for size, steps in [(0.1, 1), (0.1, 3), (0.5, 3)]]
    losses = [call(natural, model, FREE)[0]] + [call(pgd, model, attack)[0] for attack in attacks]
    assert np.all(np.diff(losses) > 0.01)


def test_free_lb_of_one_pass_is_natural_around_the_start():
    model, attack = LinearModel(), EmbeddingAttack(0.4, 0.3, steps=1)
    loss, gradients = call(free_lb, model, attack)
    start = attack.start(NOISE, TOKEN_MASK)
    around = natural(model.losses, model.variables, lambda: model.embed() + start)
    assert_result((loss, gradients), *around)


class NoisyModel:
    """Not linear, with dropout, and with a table that is used after the lookup as well."""

    def __init__(self):
        random = np.random.default_rng(2)
        self.table = tf.Variable(random.normal(size=[WORDS, DIM]), dtype=tf.float32)
        self.kernel = tf.Variable(random.normal(size=[DIM, DIM]), dtype=tf.float32)
        self.generator = tf.random.Generator.from_seed(3)
        self.variables = [self.table, self.kernel]

    def losses(self, embeddings):
        kept = self.generator.uniform(tf.shape(embeddings)) < 0.7
        hidden = tf.tanh(embeddings @ self.kernel) * tf.cast(kept, tf.float32)
        hidden += tf.gather(self.table, [4, 4])[:1]
        return tf.reduce_sum(hidden**2 * TOKEN_MASK[:, :, None], axis=[1, 2])


def python_loop(model, attack):
    """FreeLB as its authors write it, with everything differentiated in every pass."""
    delta, total, sums = attack.start(NOISE, TOKEN_MASK), 0.0, [0.0 for _ in model.variables]
    for _ in range(attack.steps):
        with tf.GradientTape() as tape:
            tape.watch(delta)
            losses = model.losses(tf.gather(model.table, TOKEN_IDS) + delta)
            loss = tf.reduce_mean(losses) / attack.steps
        *gradients, ascent = tape.gradient(loss, [*model.variables, delta])
        sums = [sum_ + tf.convert_to_tensor(g) for sum_, g in zip(sums, gradients)]
        total += loss
        delta = attack.step(delta, ascent, TOKEN_MASK)
    return total, sums


def test_gradients_add_up_as_in_a_loop_with_new_dropout_in_every_pass():
    model = NoisyModel()
    expected = python_loop(model, FREE)
    model.generator.reset_from_seed(3)
    token_ids = tf.TensorSpec([None, None], tf.int32)

    @tf.function(input_signature=[token_ids])
    def compiled(token_ids):
        return free_lb(
            model.losses,
            model.variables,
            lambda: tf.gather(model.table, token_ids),
            tf.constant(TOKEN_MASK),
            tf.constant(NOISE),
            FREE,
        )

    assert_result(compiled(tf.constant(TOKEN_IDS, tf.int32)), *expected)


def compiled_for_any_length(objective, steps):
    model = LinearModel()

    def losses_of(token_mask):
        return lambda x: tf.reduce_sum(x * token_mask[:, :, None] @ model.kernel, axis=[1, 2]) ** 2

    @tf.function(input_signature=[tf.TensorSpec([4, None], tf.int32)])
    def compiled(token_ids):
        token_mask = tf.cast(token_ids > 0, tf.float32)
        noise = tf.random.stateless_uniform([*tf.unstack(tf.shape(token_ids)), DIM], [0, 1], -1, 1)
        attack = EmbeddingAttack(0.1, 0.1, steps)
        embed = lambda: tf.gather(model.table, token_ids)  # noqa: E731
        losses = losses_of(token_mask)
        return objective(losses, model.variables, embed, token_mask, noise, attack)

    return compiled


@pytest.mark.parametrize("objective", [natural, free_lb, pgd])
def test_batches_of_any_length(objective):
    """Padding makes a batch longer and nothing else."""
    compiled = compiled_for_any_length(objective, steps=2)
    short, long = compiled(TOKEN_IDS), compiled(np.pad(TOKEN_IDS, [(0, 0), (0, 3)]))
    assert compiled.experimental_get_tracing_count() == 1
    if objective is natural:  # Others start from other noise.
        assert_result(short, *long)


def operations(function):
    graph = function.get_concrete_function().graph
    bodies = graph.as_graph_def().library.function
    return len(graph.get_operations()) + sum(len(body.node_def) for body in bodies)


@pytest.mark.parametrize("objective", [free_lb, pgd])
def test_the_graph_does_not_grow_with_the_passes(objective):
    sizes = {operations(compiled_for_any_length(objective, steps)) for steps in (1, 2, 9)}
    assert len(sizes) == 1


@tf.custom_gradient
def not_to_be_differentiated(tensor):
    def backward(_):
        raise AssertionError("a gradient that nobody asked for")

    return tf.identity(tensor), backward


@pytest.mark.parametrize("objective", [natural, free_lb, pgd])
def test_nothing_is_differentiated_by_other_variables(objective):
    model = LinearModel()
    frozen = tf.Variable(tf.eye(DIM))
    learned = tf.Variable(tf.ones([DIM]))
    model.embed = lambda: tf.gather(not_to_be_differentiated(model.table), TOKEN_IDS)
    model.losses = lambda x: tf.reduce_sum(x @ not_to_be_differentiated(frozen) * learned, [1, 2])
    _, gradients = call(objective, model, FREE, [learned])
    assert len(gradients) == 1 and gradients[0].shape == [DIM]


@pytest.mark.parametrize("objective", [natural, free_lb, pgd])
def test_two_devices_sum_to_one(objective):
    strategy = mirrored()
    expected = call(objective, LinearModel(), FREE)
    with strategy.scope():
        model = LinearModel()
    labels, token_ids = tf.constant(LABELS), tf.constant(TOKEN_IDS)

    @tf.function
    def on_both():
        def on_replica():
            first = 2 * tf.distribute.get_replica_context().replica_id_in_sync_group
            share = slice(first, first + 2)
            mask = tf.constant(TOKEN_MASK)[share]

            def losses(x):
                weights = (mask * model.positions)[:, :, None]
                logits = tf.reduce_sum(x * weights, axis=1) @ model.kernel
                target = labels[share]
                return tf.nn.sparse_softmax_cross_entropy_with_logits(target, logits) / 2

            embed = lambda: tf.gather(model.table, token_ids[share])  # noqa: E731
            noise = tf.constant(NOISE)[share]
            return objective(losses, model.variables, embed, mask, noise, FREE)

        loss, gradients = strategy.run(on_replica)
        return tf.nest.map_structure(
            lambda part: strategy.reduce("SUM", part, None), (loss, gradients)
        )

    assert_result(on_both(), *expected)


def test_a_variable_without_influence_is_named():
    model = LinearModel()
    idle = tf.Variable(1.0, name="idle")
    with pytest.raises(ValueError, match="idle:0"):
        call(free_lb, model, FREE, [model.kernel, idle])


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"step_size": -0.1}, "--adv_step_size=-0.1"),
        ({"step_size": np.nan}, "--adv_step_size=nan"),
        ({"init_magnitude": np.inf}, "--adv_init_magnitude=inf"),
        ({"steps": 0}, "--adv_steps=0"),
        ({"bound": 0.0}, "--adv_bound=0.0"),
    ],
)
def test_values_out_of_range_are_named(changes, flag):
    with pytest.raises(UserError, match=flag):
        EmbeddingAttack(**{"step_size": 0.1, "init_magnitude": 0.1, "steps": 1} | changes)
