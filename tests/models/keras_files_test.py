"""Models of Keras 2 and 3 come out of files as they went in; Keras 3 itself is the judge."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tf_keras as keras

from tf_tickets.errors import UserError
from tf_tickets.models.keras_files import read_keras_model

# Run by a Python of its own, as Keras 3 has no place beside Keras 2.
_MAKE = """
import sys
import numpy as np
import keras

folder, layers = sys.argv[1], keras.layers
keras.utils.set_random_seed(3)


def residual():
    inputs = keras.Input((12, 12, 3))
    x = layers.Rescaling(2.0, -1.0)(inputs)
    x = layers.Conv2D(6, 3, padding="same", activation="silu")(x)
    x = layers.BatchNormalization()(x)
    y = layers.SeparableConv2D(6, 3, padding="same", activation=layers.LeakyReLU(0.1))(x)
    y = layers.GroupNormalization(3)(y)
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
    x = layers.Add()([x, y])
    x = 2.0 - x * 0.5
    x = layers.ReLU(max_value=6.0, negative_slope=0.1)(x + y)
    x = layers.Concatenate()([x, layers.PReLU(shared_axes=[1, 2])(y)])
    x = layers.MaxPooling2D()(layers.ZeroPadding2D(1)(x))
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="gelu")(x)
    x = layers.AveragePooling2D(2, padding="same")(layers.Dropout(0.5)(x))
    x = layers.LayerNormalization()(layers.UpSampling2D(2, interpolation="bilinear")(x))
    return keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))


def nested():
    backbone = keras.Sequential(
        [layers.Input((12, 12, 3)), layers.Conv2D(4, 3), layers.Conv2D(4, 3, activation="elu")]
    )
    inputs = keras.Input((12, 12, 3))
    x = layers.Flatten()(backbone(layers.Multiply()([inputs, inputs])))
    head = keras.Sequential([layers.Dense(7, "softplus"), layers.Dense(5)])
    return keras.Model(inputs, head(x))


def activations():
    inputs = keras.Input((12, 12, 3))
    x = layers.Flatten()(inputs)
    names = "elu exponential gelu linear mish relu relu6 selu sigmoid silu softmax softplus"
    parts = [layers.Dense(4, name)(x) for name in [*names.split(), "softsign", "tanh"]]
    return keras.Model(inputs, layers.Dense(5)(layers.Concatenate()(parts)))


def half():
    keras.mixed_precision.set_global_policy("mixed_float16")
    model = keras.Sequential([layers.Input((12, 12, 3)), layers.Flatten(), layers.Dense(5)])
    keras.mixed_precision.set_global_policy("float32")
    return model


images = np.random.default_rng(0).uniform(size=(4, 12, 12, 3)).astype("float32")
for make in (residual, nested, activations, half):
    model = make()
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([np.random.default_rng(1).uniform(0.5, 2, 6)] * 4)
    for suffix in ("keras", "h5"):
        model.save(f"{folder}/{make.__name__}.{suffix}")
    np.save(f"{folder}/{make.__name__}.npy", model(images, training=False))
sigmoid = keras.Sequential([layers.Input((4,)), layers.Dense(3, "hard_sigmoid")])
sigmoid.save(f"{folder}/other.keras")
"""


@pytest.fixture(scope="module")
def keras_3(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras_3")
    environment = {"PATH": "", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", _MAKE, str(folder)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("name", ["residual", "nested", "activations", "half"])
def test_keras_3_computes_the_same(keras_3, name, suffix, trust):
    images = np.random.default_rng(0).uniform(size=(4, 12, 12, 3)).astype("float32")
    expected = np.load(keras_3 / f"{name}.npy")
    found = read_keras_model(keras_3 / f"{name}.{suffix}", trust)(images, training=False)
    assert found.dtype == expected.dtype and np.ptp(expected) > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-6 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("trust", [False, True])
def test_what_keras_2_computes_differently_is_refused(keras_3, trust):
    with pytest.raises(UserError, match="Keras 3, .* the activation hard_sigmoid") as error:
        read_keras_model(keras_3 / "other.keras", trust)
    assert "model.export()" in str(error.value) and len(str(error.value)) <= 300


def network():
    inputs = keras.Input((8, 8, 1))
    hidden = keras.layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2")(inputs)
    hidden = 2.0 - hidden * 0.5
    hidden = keras.layers.Conv2D(3, 3, activation=keras.layers.LeakyReLU(0.1))(hidden)
    outer = keras.Sequential([keras.layers.Input((4, 4, 3)), keras.layers.Flatten()])
    model = keras.Model(inputs, keras.layers.Dense(5)(outer(hidden)))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_keras_2_computes_the_same(tmp_path, suffix):
    model, path = network(), tmp_path / f"network.{suffix}"
    model.save(path)
    images = np.random.default_rng(0).uniform(size=(4, 8, 8, 1)).astype("float32")
    expected = model(images)
    np.testing.assert_allclose(read_keras_model(path)(images), expected, atol=1e-6)


def test_layers_of_more_weights_than_the_file_are_not_built(tmp_path):
    path, large = tmp_path / "network.keras", tmp_path / "large.keras"
    keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)]).save(path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(large, "w") as target:
        config = json.loads(source.read("config.json"))
        config["config"]["layers"][1]["config"]["units"] = 10**12
        target.writestr("config.json", json.dumps(config))
        target.writestr("metadata.json", source.read("metadata.json"))
        target.writestr("model.weights.h5", source.read("model.weights.h5"))
    with pytest.raises(UserError, match="its layers have more than the 15 weights"):
        read_keras_model(large)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_initializers_stay_and_are_not_run(tmp_path, suffix, monkeypatch):
    """An orthogonal one would take hours where a layer is wide; the weights are in the file."""
    layers = [keras.layers.Input((4,)), keras.layers.Dense(3, kernel_initializer="orthogonal")]
    model, path = keras.Sequential(layers), tmp_path / f"network.{suffix}"
    model.save(path)

    def run(*_, **__):
        raise AssertionError("it was run")

    monkeypatch.setattr(keras.initializers.Orthogonal, "__call__", run)
    found = read_keras_model(path)
    assert isinstance(found.layers[0].kernel_initializer, keras.initializers.Orthogonal)
    for ours, theirs in zip(found.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_steps_of_any_number_become_a_loop(tmp_path):
    """Unrolled, a million steps would take hours to load."""

    def recurrent(steps):
        repeat, unrolled = keras.layers.RepeatVector(steps), keras.layers.GRU(3, unroll=True)
        return keras.Sequential([keras.layers.Input((2,)), repeat, unrolled])

    model, path, long = recurrent(5), tmp_path / "short.keras", tmp_path / "long.keras"
    model.save(path)
    example = np.float32([[0.3, -0.8]])
    np.testing.assert_allclose(read_keras_model(path)(example), model(example), atol=1e-6)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(long, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b'"n": 5', b'"n": 1000000'))
    assert read_keras_model(long).layers[0].n == 1_000_000


def test_weights_alone_are_named_as_what_they_are(tmp_path):
    path = tmp_path / "weights.h5"
    network().save_weights(path)
    with pytest.raises(UserError, match="holds weights alone; expected a whole model"):
        read_keras_model(path)
