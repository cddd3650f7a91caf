"""Keras' own networks lose a share of all channels, and give what they give with zeros there."""

import pytest
import tf_keras as keras

from tests.structured.networks import assert_same, images, randomised, some_filters, zeroed
from tf_tickets.structured.channels import channels_of
from tf_tickets.structured.surgery import Removal, remove

# The others take minutes: the benchmark of structured pruning has them all.
CHEAP = ("EfficientNetB0",)


@pytest.mark.parametrize("name", CHEAP)
def test_a_share_of_all_channels_goes(name):
    keras.backend.clear_session()
    options = {"weights": None, "classes": 10, "classifier_activation": None}
    model = getattr(keras.applications, name)(input_shape=(32, 32, 3), **options)
    model, filters = randomised(model), some_filters(model, share=0.3)
    inputs = 255 * images(model, 4)  # They rescale themselves.
    smaller = remove(model, Removal(filters, ()))
    assert smaller.count_params() < 0.75 * model.count_params()
    assert_same(smaller(inputs), zeroed(model, inputs, filters))
    assert all(len(why) < 200 for why in channels_of(model).left_alone.values())
