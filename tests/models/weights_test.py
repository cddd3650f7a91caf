"""Heads and bodies of networks."""

import numpy as np
import pytest
import tf_keras as keras

from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import head_paths, read_weights, with_body, write_weights


def network(num_classes, seed, name="resnet_20"):
    return build_model(name, (8, 8, 3), num_classes, seed, width_multiplier=1 / 4)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet_20", ("logits/kernel", "logits/bias")),
        ("resnet_50_v1", ("logits/kernel", "logits/bias")),
        ("lenet_300_100", ("logits/kernel",)),  # Without biases, with two more dense layers.
    ],
)
def test_the_head_is_the_last_dense_layer(name, head):
    assert head_paths(network(3, 0, name)) == head


def test_a_network_without_dense_layers_has_no_head():
    model = keras.Sequential([keras.layers.Input((8, 8, 3)), keras.layers.Flatten()], name="flat")
    with pytest.raises(ValueError, match="flat has no dense layer"):
        head_paths(model)


@pytest.mark.parametrize("with_head", [True, False])
def test_the_body_is_transferred_and_the_head_is_the_models_own(with_head):
    source, target = read_weights(network(5, 1)), network(3, 2)
    own = read_weights(target)
    given = source if with_head else {k: v for k, v in source.items() if "logits" not in k}
    weights = with_body(target, given)
    assert list(weights) == list(own)
    for path, array in weights.items():
        np.testing.assert_array_equal(array, (own if "logits" in path else source)[path])
        np.testing.assert_array_equal(own[path], read_weights(target)[path])
    write_weights(target, weights)


def test_another_body_is_refused():
    target = network(3, 0)
    body = {k: v for k, v in read_weights(network(3, 1)).items() if "logits" not in k}
    missing = {k: v for k, v in body.items() if k != "stem/conv/kernel"}
    for wrong in (missing, body | {"more": np.zeros(1)}, body | {"stem/conv/kernel": np.zeros(1)}):
        with pytest.raises(ValueError, match="a body of shapes .* for resnet_20 with"):
            with_body(target, wrong)
