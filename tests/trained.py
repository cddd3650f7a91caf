"""A network that has learned something, and saved forms of it to attack."""

import functools

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.data.registry import load_images
from tf_tickets.data.vision import ImageSplit
from tf_tickets.deployment.saved_model import export_saved_model
from tf_tickets.evaluation.victims import Victim
from tf_tickets.masking.ticket import Provenance, Ticket
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import read_weights, weight_path, write_weights
from tf_tickets.runs.files import save_arrays

SHAPE = (28, 28, 1)
CELL = "mnist/natural/original/seed_0/level_03.npz"


@functools.cache
def mnist():
    return load_images("mnist", "embedded")


def images_of_test(count) -> ImageSplit:
    return mnist().limited(0, test=count).test


def unit_interval(split):
    return tf.constant(split.images / np.float32(255)), tf.constant(split.labels)


@functools.cache
def lenet(seed=0):
    """LeNet-300-100 after two epochs, whose smallest half of hidden weights was then removed."""
    model = build_model("lenet_300_100", SHAPE, 10, seed)
    model.compile(
        keras.optimizers.legacy.Adam(1.2e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    train = mnist().train
    model.fit(train.images / np.float32(255), train.labels, batch_size=100, epochs=2, verbose=0)
    write_weights(model, {k: v * masks(model).get(k, 1) for k, v in read_weights(model).items()})
    return model


def masks(model):
    kernels = [variable for variable in model.weights if "hidden" in variable.name]
    return {weight_path(v): np.abs(v.numpy()) >= np.median(np.abs(v.numpy())) for v in kernels}


def save_model(model, folder):
    """Exports the network as it is; returns the folder."""
    kept = {path: weight != 0 for path, weight in read_weights(model).items() if "kernel" in path}
    provenance = Provenance("as it is", model.name, {}, "mnist", 0, 0, "", "", {})
    images = np.random.default_rng(0).uniform(size=(4, *model.input_shape[1:]))
    export_saved_model(model, Ticket(kept, provenance), folder, images.astype(np.float32))
    return folder


def save_run(model, run, **changes):
    """A ticket and its trained weights; returns the ticket's path."""
    fields = {
        "algorithm": "original",
        "model": "lenet_300_100",
        "model_config": {"image_shape": list(SHAPE), "num_classes": 10},
        "data_set": "mnist (embedded)",
        "seed": 0,
        "level": 3,
        "initial_weights_sha256": "",
        "parent_sha256": "",
        "versions": {},
    }
    kept = {k: v != 0 for k, v in read_weights(model).items() if "hidden" in k}
    path = run / "tickets" / CELL
    Ticket(kept, Provenance(**fields | changes)).save(path)
    save_arrays(run / "checkpoints" / CELL, read_weights(model))
    return path


def victim_of(logits_fn, image_shape=SHAPE, num_classes=10):
    return Victim("in memory", "nowhere", {}, logits_fn, image_shape, num_classes)
