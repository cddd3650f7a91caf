"""The loss on a plane of weights, against closed forms."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tf_tickets.attacks.gradient import build_attack, uniform_noise
from tf_tickets.attacks.threat_model import pgd
from tf_tickets.data.vision import ImageSplit
from tf_tickets.evaluation.loss_surface import LossSurface, Survey, grid
from tf_tickets.evaluation.weight_planes import Plane
from tf_tickets.models.weights import read_weights

SHAPE = (2, 2, 1)
ATTACK = pgd(0.1, 0.03, 5, random_start=True)


def split(count=7):
    random = np.random.default_rng(0)
    images = random.integers(256, size=(count, *SHAPE), dtype=np.uint8)
    return ImageSplit(images, random.integers(3, size=count))


@pytest.fixture
def model():
    """Logits that are linear in the four pixels, after a BatchNorm with statistics of its own."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    network = keras.Sequential(
        [layers.Input(SHAPE), layers.Flatten(), layers.BatchNormalization(name="norm"),
         layers.Dense(3, name="logits")]
    )  # fmt: skip
    network.get_layer("norm").moving_mean.assign([0.5, 0.4, 0.3, 0.2])
    network.get_layer("norm").moving_variance.assign([1.0, 2.0, 0.5, 1.5])
    return network


def plane(model):
    random = np.random.default_rng(2)
    weights = read_weights(model)
    origin = {p: w for p, w in weights.items() if "moving" not in p}
    drawn = [{p: random.normal(size=w.shape).astype(np.float32) for p, w in origin.items()}
             for _ in "ab"]  # fmt: skip
    return Plane("random", origin, *drawn)


def closed_form(model, on, images, labels, a, b):
    """Mean cross-entropy, in NumPy and float64."""
    w = {p: on.origin[p] + a * on.first[p] + b * on.second[p].astype(float) for p in on.origin}
    norm = model.get_layer("norm")
    scale = np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
    pixels = (images.reshape(len(images), 4) - norm.moving_mean.numpy()) / scale
    hidden = w["norm/gamma"] * pixels + w["norm/beta"]
    logits = hidden @ w["logits/kernel"] + w["logits/bias"]
    likelihoods = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return -np.log(likelihoods[np.arange(len(labels)), labels]).mean()


@pytest.mark.parametrize("chunks,batch_size", [(1, 7), (2, 3)])
def test_every_point_of_the_grid(model, chunks, batch_size):
    on, data = plane(model), split()
    surface = LossSurface(model, on, chunks, batch_size)
    before, images = read_weights(model), surface.clean(data)
    assert images == pytest.approx(data.images / 255)
    first, second = np.linspace(-1, 1, 4), np.linspace(-0.5, 2, 3)
    told = []
    losses = surface.measure(images, data.labels, first, second, lambda *work: told.append(work))
    expected = [[closed_form(model, on, images, data.labels, a, b) for a in first] for b in second]
    assert losses == pytest.approx(np.array(expected), rel=1e-5)
    assert sum(images for images, _ in told) == 12 * 7
    assert all(np.array_equal(before[path], w) for path, w in read_weights(model).items())


def test_all_points_share_one_graph(model):
    surface = LossSurface(model, plane(model), 1, 3)
    data = split()  # Its last batch is smaller.
    surface.measure(surface.clean(data), data.labels, np.arange(3.0), np.arange(2.0))
    assert surface._move.experimental_get_tracing_count() == 1
    assert surface._sum_of_losses.experimental_get_tracing_count() == 1


def test_images_are_attacked_once_at_the_trained_weights(model):
    on, data = plane(model), split()
    surface = LossSurface(model, on, 1, 4)
    attacked = surface.attacked(data, ATTACK, seed=3)
    clean = data.images / np.float32(255)
    assert np.abs(attacked - clean).max() <= 0.1 + 1e-6
    # The same attack, batch by batch.
    attack = build_attack(ATTACK, lambda images: model(images, training=False))
    for start in (0, 4):
        images, labels = (tf.constant(x[start : start + 4]) for x in (clean, data.labels))
        noise = uniform_noise(images, tf.constant([3, start]))
        expected = attack(images, labels, noise).numpy()
        assert attacked[start : start + 4] == pytest.approx(expected, abs=1e-5)

    found = surface.survey(data, Survey(ATTACK, resolution=3, span=0.5, seed=3))
    for name, images in {"clean": clean, "attacked": attacked}.items():
        for row, column in np.ndindex(3, 3):
            a, b = found.first[column], found.second[row]
            expected = closed_form(model, on, images, data.labels, a, b)
            assert found.losses[name][row, column] == pytest.approx(expected, rel=1e-5)
        assert found.trained[name] == pytest.approx(found.losses[name][1, 1], rel=1e-6)
    assert found.trained["attacked"] > found.trained["clean"]


def test_progress_is_all_of_the_work(model):
    told, how = [], Survey(ATTACK, resolution=3)
    LossSurface(model, plane(model), 1, 4).survey(split(), how, lambda *work: told.append(work))
    assert sum(images for images, _ in told) == 7 * how.passes


def test_the_weights_come_back_when_measuring_stops(model):
    before = read_weights(model)
    surface = LossSurface(model, plane(model))

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data = split()
        surface.measure(surface.clean(data), data.labels, np.ones(1), np.ones(1), stop)
    assert all(np.array_equal(before[path], w) for path, w in read_weights(model).items())


def test_grids(model):
    on = plane(model)
    first, second = grid(on, 5, 2.0)
    assert first.tolist() == second.tolist() == [-2, -1, 0, 1, 2]
    way = np.array([[8.0, 1.0], [4.0, -1.0]])
    along = Plane("pca", on.origin, on.first, on.second, way, (0.9, 0.1))
    first, second = grid(along, 3, 1.0)
    # From 0 to 8 and from -1 to 1, which are eight tenths of the sides.
    assert first == pytest.approx([-1, 4, 9]) and second == pytest.approx([-1.25, 0, 1.25])
    assert grid(along, 2, 2.0)[0] == pytest.approx([-6, 14])
