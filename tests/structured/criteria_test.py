"""Scores against computations by hand, by brute force and by other libraries."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tf_keras as keras
from sklearn.cross_decomposition import PLSRegression

from tf_tickets.data.vision import ImageSplit
from tf_tickets.models.registry import build_model
from tf_tickets.structured.channels import channels_of
from tf_tickets.structured.criteria import CRITERIA, score, variable_importance
from tf_tickets.structured.surgery import Removal, remove

CONV = "stage_2/block_1/conv_1"
BLOCK = "stage_3/block_2/sum"


def shaken(model):
    """Weights of no special values, so that nothing is zero by chance."""
    generator = np.random.default_rng(1)
    for weight in model.weights:
        positive = "variance" in weight.name
        noise = generator.uniform(0.8, 1.5, weight.shape) if positive else 0.0
        weight.assign(noise if positive else weight + 0.1 * generator.normal(size=weight.shape))
    return model


@pytest.fixture(scope="module")
def network():
    model = shaken(build_model("resnet_20", (16, 16, 3), 10, 0, 0.25))
    logits = model.get_layer("logits")
    logits.kernel.assign(0.01 * logits.kernel)  # No answer should be certain.
    return model


@pytest.fixture(scope="module")
def examples():
    generator = np.random.default_rng(2)
    images = generator.integers(256, size=(130, 16, 16, 3), dtype=np.uint8)
    return ImageSplit(images, generator.integers(10, size=130))


def maps_of(network, layer, examples):
    """Feature maps by Keras itself, `[images, height, width, channels]`."""
    output = network.get_layer(layer).output
    probe = keras.Model(network.input, output)
    return probe(examples.images.astype(np.float32) / 255, training=False).numpy()


def relu_of(convolution):
    return convolution.replace("conv_1", "relu_1")


def block_output(block):
    return block.replace("sum", "relu_2")


@pytest.mark.parametrize("criterion", CRITERIA)
def test_everything_that_may_go_has_one_finite_score(network, examples, criterion):
    names = channels_of(network).untied_convolutions
    scores = score(network, criterion, examples, seed=0, names=names)
    assert {name: values.shape for name, values in scores.filters.items()} == {
        f"stage_{stage}/block_{block}/conv_1": (4 * 2 ** (stage - 1),)
        for stage in (1, 2, 3)
        for block in (1, 2, 3)
    }
    assert set(scores.blocks) == {
        f"stage_{stage}/block_{block}/sum" for stage in (1, 2, 3) for block in (2, 3)
    }
    values = np.concatenate([*scores.filters.values(), list(scores.blocks.values())])
    assert np.all(np.isfinite(values)) and np.all(values >= 0) and len(set(values)) > 3


def test_l1_is_the_sum_of_absolute_weights_beside_the_layers_mean(network, examples):
    scores = score(network, "l1", examples, seed=0)
    kernel = network.get_layer(CONV).kernel.numpy()
    by_hand = [sum(abs(w) for w in kernel[..., f].ravel().tolist()) for f in range(8)]
    np.testing.assert_allclose(scores.filters[CONV], np.array(by_hand) / np.mean(by_hand))
    kernels = [network.get_layer(f"stage_3/block_2/conv_{n}").kernel.numpy() for n in (1, 2)]
    sums = np.concatenate([np.abs(kernel).reshape(-1, 16).sum(axis=0) for kernel in kernels])
    np.testing.assert_allclose(scores.blocks[BLOCK], sums.mean() / np.sqrt(9 * 16), rtol=1e-6)


@pytest.mark.parametrize(
    "branch",
    [
        lambda x: keras.layers.SeparableConv2D(6, 3, depth_multiplier=2, padding="same")(x),
        lambda x: keras.layers.Dense(6)(x),
        lambda x: keras.layers.DepthwiseConv2D(3, padding="same")(x),
        lambda x: keras.layers.Conv2DTranspose(6, 3, padding="same", use_bias=False)(x),
    ],
)
def test_l1_of_blocks_without_plain_convolutions(branch):
    """The oracle is the kernel that the layer acts as: its answer to single pixels."""
    keras.utils.set_random_seed(1)
    image = keras.layers.Input((5, 5, 6))
    x = keras.layers.Conv2D(6, 1)(image)
    for _ in range(3):
        x = keras.layers.Add()([branch(x), x])
    network = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    scores = score(network, "l1", None, 0)
    layer = network.layers[4]
    impulses = np.zeros((6, 5, 5, 6), np.float32)
    impulses[range(6), 2, 2, range(6)] = 1
    answers = np.float64(layer(impulses)) - np.float64(layer(0 * impulses))
    fan_in = {"Dense": 6, "DepthwiseConv2D": 9}.get(type(layer).__name__, 54)
    expected = np.abs(answers).sum(axis=(0, 1, 2)).mean() / np.sqrt(fan_in)
    block = next(name for name in scores.blocks if name == network.layers[5].name)
    np.testing.assert_allclose(scores.blocks[block], expected, rtol=1e-5)


def test_no_stage_looks_less_important_for_its_width():
    """He's initial weights say nothing about which stage is dispensable."""
    network = build_model("resnet_20", (32, 32, 3), 10, 0)
    values = list(score(network, "l1", None, 0).blocks.values())
    assert max(values) < 1.1 * min(values)


def test_expected_abs_is_the_mean_absolute_activation(network, examples):
    scores = score(network, "expected_abs", examples, seed=0)
    maps = maps_of(network, relu_of(CONV), examples)
    means = np.abs(maps).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(scores.filters[CONV], means / means.mean(), rtol=1e-5)
    maps = maps_of(network, block_output(BLOCK), examples)
    np.testing.assert_allclose(scores.blocks[BLOCK], np.abs(maps).mean(), rtol=1e-5)


def rank_by_elimination(matrix):
    """Gaussian elimination with complete pivoting."""
    matrix, rank = matrix.astype(np.float64).copy(), 0
    tolerance = np.abs(matrix).max() * max(matrix.shape) * 1e-6
    while rank < min(matrix.shape):
        rest = np.abs(matrix[rank:, rank:])
        row, column = np.unravel_index(rest.argmax(), rest.shape)
        if rest[row, column] <= tolerance:
            break
        matrix[[rank, rank + row]] = matrix[[rank + row, rank]]
        matrix[:, [rank, rank + column]] = matrix[:, [rank + column, rank]]
        below = matrix[rank + 1 :, rank] / matrix[rank, rank]
        matrix[rank + 1 :] -= below[:, np.newaxis] * matrix[rank]
        rank += 1
    return rank


def test_hrank_is_the_mean_rank_of_feature_maps(network, examples):
    few = examples.subset(slice(0, 12))
    scores = score(network, "hrank", few, seed=0)
    maps = maps_of(network, relu_of(CONV), few)
    by_hand = [
        np.mean([rank_by_elimination(maps[image, :, :, f]) for image in range(12)])
        for f in range(8)
    ]
    np.testing.assert_allclose(scores.filters[CONV], by_hand / np.mean(by_hand))
    assert 1 < min(by_hand) < 8  # Neither empty nor all of full rank.
    maps = maps_of(network, block_output(BLOCK), few)
    ranks = [rank_by_elimination(maps[i, :, :, f]) for i in range(12) for f in range(16)]
    np.testing.assert_allclose(scores.blocks[BLOCK], np.mean(ranks) / 4)  # Maps of 4×4.


@pytest.mark.parametrize("form", ["code", "ours"])
def test_kl_is_scipys_divergence_of_the_answers_with_and_without(network, examples, form):
    scores = score(network, "kl", examples, seed=0, form=form)
    images = examples.images.astype(np.float32) / 255

    def answers(model):
        return scipy.special.softmax(np.float64(model(images, training=False)), axis=1)

    p = answers(network)

    def divergence(removal):
        q = answers(remove(network, removal))
        pair = (q, p) if form == "code" else (p, q)
        return scipy.stats.entropy(*pair, axis=1).mean()

    for index in (0, 5):
        expected = divergence(Removal({CONV: (index,)}, ()))
        np.testing.assert_allclose(scores.filters[CONV][index], expected, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(scores.blocks[BLOCK], divergence(Removal({}, (BLOCK,))), rtol=1e-3)


def vip_by_nipals(features, labels):
    """PLS2 by Wold's NIPALS iterations with two components, and VIP from its definition."""
    x = (features - features.mean(0)) / features.std(0, ddof=1)
    y = np.eye(labels.max() + 1)[labels]
    y = (y - y.mean(0)) / y.std(0, ddof=1)
    weights, explained = [], []
    for _ in range(2):
        u = y[:, :1]
        for _ in range(20000):
            w = x.T @ u
            w /= np.linalg.norm(w)
            t = x @ w
            q = y.T @ t / (t.T @ t)
            previous, u = u, y @ q / (q.T @ q)
            if np.linalg.norm(u - previous) < 1e-13 * np.linalg.norm(u):
                break
        weights.append(w[:, 0])
        explained.append(((t.T @ t) * (q.T @ q)).item())  # Of the variance of Y.
        x = x - t @ (x.T @ t / (t.T @ t)).T
        y = y - t @ q.T
    weights, explained = np.array(weights), np.array(explained)
    return np.sqrt(len(weights[0]) * explained @ weights**2 / explained.sum())


def test_vip_follows_from_nipals_by_hand():
    generator = np.random.default_rng(5)
    labels = np.repeat(np.arange(3), 20)
    features = generator.normal(size=(60, 7))
    features[:, 2] += 2 * (labels == 1)
    features[:, 4] -= labels
    found = variable_importance(features, labels)
    np.testing.assert_allclose(found, vip_by_nipals(features, labels), rtol=1e-6)
    assert set(np.argsort(found)[-2:]) == {2, 4}
    np.testing.assert_allclose(np.mean(found**2), 1.0)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_vip_follows_from_scikit_learns_pls(classes):
    generator = np.random.default_rng(classes)
    labels = np.arange(80) % classes
    features = generator.normal(size=(80, 12)) + np.outer(labels, generator.normal(size=12))
    pls = PLSRegression(2, max_iter=10_000, tol=1e-14).fit(features, np.eye(classes)[labels])
    explained = np.sum(pls.x_scores_**2, axis=0) * np.sum(pls.y_loadings_**2, axis=0)
    expected = np.sqrt(12 * pls.x_weights_**2 @ explained / explained.sum())
    np.testing.assert_allclose(variable_importance(features, labels), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "features",
    [
        # Both classes have the mean 1/2 of every feature.
        [[0, 1], [1, 0], [0, 1], [1, 0]],
        # 0.2, but only about so in floats.
        [[0.1, 1], [0.3, 0], [0.2, 1], [0.2, 0]],
    ],
)
def test_features_that_tell_no_classes_apart_are_of_no_importance(features):
    found = variable_importance(np.array(features, float), np.array([0, 0, 1, 1]))
    assert found.tolist() == [0, 0]


def test_importance_where_a_second_component_would_explain_nothing():
    """The second feature has one mean in both classes and no correlation with the first."""
    features = np.array([[-2.0, 1], [-1, -1], [1, -1], [2, 1]])
    found = variable_importance(features, np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(found, [np.sqrt(2), 0], atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_have_no_importance(value):
    generator, labels = np.random.default_rng(5), np.arange(30) % 3
    features = generator.normal(size=(30, 4))
    expected = variable_importance(features[:, 1:], labels)
    features[7, 0] = value
    found = variable_importance(features, labels)
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], expected)


def test_vip_of_constant_features_is_zero():
    generator = np.random.default_rng(5)
    features = generator.normal(size=(30, 4))
    features[:, 1] = 3.0
    found = variable_importance(features, np.arange(30) % 2)
    assert found[1] == 0 and np.all(found[[0, 2, 3]] > 0)
    assert not np.any(variable_importance(np.ones((30, 4)), np.arange(30) % 2))


@pytest.mark.parametrize("form, seen", [("code", lambda name: name), ("ours", relu_of)])
def test_pls_sees_the_maxima_of_all_filters_at_once(network, examples, form, seen):
    scores = score(network, "pls", examples, seed=0, form=form)
    names = list(scores.filters)
    features = np.concatenate(
        [maps_of(network, seen(name), examples).max(axis=(1, 2)) for name in names], axis=1
    )
    expected = variable_importance(features, examples.labels)
    np.testing.assert_allclose(np.concatenate(list(scores.filters.values())), expected, rtol=1e-3)

    blocks = list(scores.blocks)
    features = [maps_of(network, block_output(name), examples).max(axis=(1, 2)) for name in blocks]
    importance = variable_importance(np.concatenate(features, axis=1), examples.labels)
    parts = np.split(importance, np.cumsum([each.shape[1] for each in features])[:-1])
    expected = [part.mean() for part in parts]
    np.testing.assert_allclose(list(scores.blocks.values()), expected, rtol=1e-3)


def test_random_follows_from_its_seed(network, examples):
    one, same, other = (score(network, "random", examples, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.filters[CONV], same.filters[CONV])
    assert one.blocks == same.blocks != other.blocks


@pytest.mark.parametrize("criterion", ["expected_abs", "kl", "pls"])
def test_progress_adds_up_to_the_examples(network, examples, criterion):
    done = []
    score(network, criterion, examples, 0, done.append)
    assert sum(done) == pytest.approx(len(examples))


def test_a_network_without_blocks_has_scores_of_filters_only(examples):
    image = keras.layers.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    network = keras.Model(image, keras.layers.Dense(10)(keras.layers.Flatten()(x)))
    for criterion in CRITERIA:
        scores = score(network, criterion, examples, 0)
        assert not scores.blocks and scores.filters["conv"].shape == (4,)


def test_an_unknown_criterion_is_refused(network, examples):
    with pytest.raises(ValueError, match="no criterion l7"):
        score(network, "l7", examples, 0)
    with pytest.raises(ValueError, match="no criterion kl of the form other"):
        score(network, "kl", examples, 0, form="other")


def test_importance_where_one_component_explains_everything():
    features = np.array([[0.0, 0], [0, 0], [1, 1], [1, 1]])
    found = variable_importance(features, np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(found, [1, 1])
