"""What is said of each layer, worked out by hand for layers whose filters are tied."""

import numpy as np
import pytest
import tf_keras as keras

from tf_tickets.structured.channels import channels_of
from tf_tickets.structured.outcome import count_that_may_go, left_alone, removed_filters, widths
from tf_tickets.structured.surgery import Removal, remove

layers = keras.layers
LOGITS = "its units are the model's outputs"


@pytest.fixture(scope="module")
def model():
    """Groups of 2 filters of `pairs` and 1 of `grouped`, groups of 3 of `threes`, and 5 alone."""
    keras.utils.set_random_seed(0)
    image = layers.Input((4, 4, 3))
    x = layers.Conv2D(8, 1, name="pairs")(image)
    x = layers.Conv2D(4, 1, groups=4, name="grouped")(x)
    x = layers.Conv2D(6, 1, name="threes")(x)
    x = layers.GroupNormalization(2, name="norm")(x)
    x = layers.Conv2D(5, 1, name="alone")(x)
    return keras.Model(image, layers.Dense(3, name="logits")(layers.GlobalMaxPooling2D()(x)))


def test_filters_that_go_with_others_are_all_listed(model):
    removal = Removal({"pairs": (2, 7), "threes": (4,), "alone": (0,)}, ())
    removed = removed_filters(channels_of(model), removal)
    assert removed == {
        "pairs": (2, 3, 6, 7), "grouped": (1, 3), "threes": (3, 4, 5), "alone": (0,)
    }  # fmt: skip
    left = {"pairs": (8, 4), "grouped": (4, 2), "threes": (6, 3), "alone": (5, 4)}
    assert widths(channels_of(model), removal) == left
    # What is listed is what is gone, and names the same removal.
    smaller, again = remove(model, removal), remove(model, Removal(removed, ()))
    for name, (_, after) in left.items():
        assert smaller.get_layer(name).filters == after
    kernel = model.get_layer("pairs").kernel.numpy()
    np.testing.assert_array_equal(
        smaller.get_layer("pairs").kernel, np.delete(kernel, removed["pairs"], axis=-1)
    )
    for some, others in zip(smaller.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(some, others)


def test_nothing_goes_of_other_layers(model):
    removal = Removal({"alone": (1, 3)}, ())
    removed = removed_filters(channels_of(model), removal)
    assert removed == {"pairs": (), "grouped": (), "threes": (), "alone": (1, 3)}


@pytest.mark.parametrize("keep_layers, count, tied", [
    ((), 8 + 4 + 6 + 5, {}),
    (("pairs",), 6 + 5, {"grouped": "pairs"}),
    (("alone", "grouped"), 6, {"pairs": "grouped"}),
    (("norm",), 8 + 4 + 5, {"threes": "norm"}),
    (("pairs", "grouped", "threes", "alone"), 0, {}),
])  # fmt: skip
def test_what_is_tied_to_a_layer_that_stays_stays_too(model, keep_layers, count, tied):
    channels = channels_of(model)
    assert count_that_may_go(channels, keep_layers) == count
    assert left_alone(channels, keep_layers) == (
        {"logits": LOGITS}
        | {name: f"it is tied to {by}, which is one of --keep_layers" for name, by in tied.items()}
        | dict.fromkeys(keep_layers, "it is one of --keep_layers")
    )


def test_a_layer_of_which_some_filters_may_go_is_not_left_alone():
    """Five filters, of which only the first three are added to the kept layer's."""
    image = layers.Input((4, 4, 3))
    wide = layers.Conv2D(5, 1, name="wide")(image)
    parts = [layers.Conv2D(3, 1, name="kept")(image), layers.Conv2D(2, 1, name="other")(image)]
    x = layers.Add()([wide, layers.Concatenate()(parts)])
    model = keras.Model(image, layers.Dense(3, name="logits")(layers.GlobalMaxPooling2D()(x)))
    channels = channels_of(model)
    assert count_that_may_go(channels, ["kept"]) == 2 + 2
    why = "it is one of --keep_layers"
    assert left_alone(channels, ["kept"]) == {"logits": LOGITS, "kept": why}


def test_names_that_no_layer_has_are_not_left_alone(model):
    assert left_alone(channels_of(model), ["nobody"]) == {"logits": LOGITS}
