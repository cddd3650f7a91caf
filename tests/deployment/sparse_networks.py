"""Small networks most of whose weights are zero, to write as files."""

import numpy as np
import tf_keras as keras

from tests.models import tiny_bert
from tf_tickets.deployment.inference import image_inference

layers = keras.layers
SHAPE = (8, 8, 3)


def kernels(model):
    return [layer.kernel.numpy() for layer in model.layers if hasattr(layer, "kernel")]


def prune(layer, density, generator):
    """Zeroes weights by chance and draws the rest anew, large enough to tell logits apart."""
    kept = generator.random(layer.kernel.shape) < density
    fan_in = max(1.0, density * np.prod(layer.kernel.shape[:-1]))
    weights = generator.normal(0, np.sqrt(2 / fan_in), kept.shape)
    layer.kernel.assign(np.where(kept, weights, 0))


def convolutional(density=0.1):
    """Convolutions, a BatchNorm and dense layers; one has no whole number of blocks of inputs."""
    model = keras.Sequential(
        [
            layers.Input(SHAPE),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(16, 1, activation="relu"),
            layers.Flatten(),
            layers.Dense(33, activation="relu"),
            layers.Dense(10),
        ]
    )
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            prune(layer, density, generator)
    return model


def images(count=64):
    generator = np.random.default_rng(1)
    return {"images": generator.random((count, *SHAPE)).astype(np.float32)}


def dense(kernel):
    """One dense layer with that kernel, as an inference."""
    model = keras.Sequential([layers.Input((kernel.shape[0],)), layers.Dense(kernel.shape[1])])
    model.layers[-1].kernel.assign(kernel)
    return image_inference(model)


def two_layers():
    """12 inputs, 16 hidden units and 5 classes, as an inference."""
    model = keras.Sequential(
        [layers.Input((12,)), layers.Dense(16, activation="relu"), layers.Dense(5)]
    )
    generator = np.random.default_rng(2)
    for layer in model.layers:
        prune(layer, 0.5, generator)
        layer.bias.assign(generator.normal(0, 0.1, layer.bias.shape))
    return image_inference(model)


def int8_logits(kernels_and_biases, inputs, examples, levels):
    """A dense network with one number for every int8 value, stated in NumPy.

    Weights have `levels` values on each side of zero and a scale for each unit; activations have
    256 values between the least and the most that `examples` give, zero included.
    """
    for index, (kernel, bias) in enumerate(kernels_and_biases):
        scale = np.abs(kernel).max(axis=0) / levels
        weights = np.round(kernel / scale) * scale
        inputs, exact = _round_to_256(inputs, examples) @ weights + bias, examples @ kernel + bias
        last = index == len(kernels_and_biases) - 1
        inputs, examples = (
            (inputs, exact) if last else (np.maximum(inputs, 0), np.maximum(exact, 0))
        )
    return _round_to_256(inputs, examples)


def output_step(logits):
    """What two neighbouring int8 values of the logits are apart."""
    return (max(logits.max(), 0) - min(logits.min(), 0)) / 255


def _round_to_256(values, examples):
    low, high = min(examples.min(), 0), max(examples.max(), 0)
    step = (high - low) / 255
    zero = np.round(-low / step)
    return (np.clip(np.round(values / step) + zero, 0, 255) - zero) * step


def bert(folder, density=0.3):
    """A classifier of three classes around a BERT of one layer, 80 wide inside."""
    from tf_tickets.models.bert_classifier import BertClassifier
    from tf_tickets.models.bert_encoder import load_encoder

    tensors = tiny_bert.state_dict()
    tensors = {name: each for name, each in tensors.items() if "encoder.layer.1" not in name}
    generator = np.random.default_rng(3)
    inside = {"intermediate.dense": (80, 16), "output.dense": (16, 80)}
    for name, shape in inside.items():
        weights, biases = generator.normal(0, 0.3, shape), np.zeros(shape[:1])
        tensors[f"encoder.layer.0.{name}.weight"] = weights.astype(np.float32)
        tensors[f"encoder.layer.0.{name}.bias"] = biases.astype(np.float32)
    sizes = {"num_hidden_layers": 1, "intermediate_size": 80}
    encoder = load_encoder(bert_dir=str(tiny_bert.write_folder(folder / "bert", tensors, **sizes)))
    classifier = BertClassifier(encoder, 3, 0.1, 0)
    for layer in classifier.masked_layers.values():
        layer.kernel.assign(
            np.where(generator.random(layer.kernel.shape) < density, layer.kernel, 0)
        )
    return classifier
