"""Residual blocks against lists written by hand."""

import pytest
import tf_keras as keras

from tests.structured import networks
from tf_tickets.errors import UserError
from tf_tickets.models.graph import graph_of
from tf_tickets.models.registry import build_model
from tf_tickets.structured.blocks import (
    choose_blocks,
    most_removable_blocks,
    removable_blocks,
    require_removable,
    residual_blocks,
)

layers = keras.layers

FIRST = "it is the first of its stage"
SMALL = "its stage has no more than 2 blocks"


def stages_of(graph):
    """Name of each block → its stage and why it must stay."""
    return {block.name: (block.stage, block.reason) for block in residual_blocks(graph)}


@pytest.fixture(scope="module")
def resnet_50():
    return graph_of(networks.resnet_50())


@pytest.fixture(scope="module")
def mobilenet_v2():
    return graph_of(networks.mobilenet_v2())


def test_resnet_50(resnet_50):
    expected = {}
    for stage, blocks in ((1, 3), (2, 4), (3, 6), (4, 3)):
        for block in range(1, blocks + 1):
            expected[f"conv{stage + 1}_block{block}_add"] = (stage, FIRST if block == 1 else "")
    assert stages_of(resnet_50) == expected
    assert most_removable_blocks(resnet_50) == 1 + 2 + 4 + 1


def test_mobilenet_v2(mobilenet_v2):
    assert stages_of(mobilenet_v2) == {
        "block_2_add": (1, SMALL),
        **{f"block_{block}_add": (2, "") for block in (4, 5)},
        **{f"block_{block}_add": (3, "") for block in (7, 8, 9)},
        **{f"block_{block}_add": (4, "") for block in (11, 12)},
        **{f"block_{block}_add": (5, "") for block in (14, 15)},
    }
    assert most_removable_blocks(mobilenet_v2) == 1 + 2 + 1 + 1


@pytest.mark.parametrize("width_multiplier", [0.1, 1e-9])
def test_wide_resnet_whatever_its_width(width_multiplier):
    graph = graph_of(build_model("wide_resnet_22_2", (32, 32, 3), 10, 0, width_multiplier))
    assert stages_of(graph) == {
        f"stage_{stage}/block_{block}/sum": (stage, FIRST if block == 1 else "")
        for stage in (1, 2, 3)
        for block in (1, 2, 3)
    }


def test_the_first_block_of_a_first_stage_with_an_identity_shortcut_stays():
    graph = graph_of(networks.residual())
    assert stages_of(graph) == {
        "sum_1": (1, FIRST),
        "sum_2": (1, ""),
        "sum_3": (1, ""),
        "sum_4": (1, ""),
    }
    tensors = {call.layer.name: call.output for call in graph.calls}
    second = residual_blocks(graph)[1]
    assert second.shortcut == tensors["relu_1"]
    assert (second.branch, second.output) == (tensors["norm_2"], tensors["sum_2"])
    assert [block.name for block in removable_blocks(graph)] == ["sum_2", "sum_3", "sum_4"]


def test_stages_of_two_blocks_keep_both():
    reasons = [reason for _, reason in stages_of(graph_of(networks.narrow("resnet_18"))).values()]
    assert reasons == [FIRST, SMALL] * 4


def conv(x, filters, stride=1):
    return layers.Conv2D(filters, 3, strides=stride, padding="same")(x)


def test_networks_without_blocks():
    for model in (networks.narrow("vgg_16"), networks.dense_blocks()):
        graph = graph_of(model)
        assert residual_blocks(graph) == [] and most_removable_blocks(graph) == 0


def test_only_a_sum_of_two_with_layers_between_is_a_block():
    image = layers.Input((8, 8, 3))
    x = conv(image, 4)
    x = layers.Add(name="three")([x, conv(x, 4), conv(x, 4)])
    x = layers.Add(name="no_product")([x, layers.ReLU()(x)])
    x = layers.Add(name="broadcast")([x, conv(x, 1)])
    inner = layers.Add(name="inner")([x, conv(x, 4)])
    x = layers.Add(name="outer")([x, conv(inner, 4)])
    x = layers.Multiply(name="gate")([x, conv(x, 4)])
    names = [block.name for block in residual_blocks(graph_of(keras.Model(image, x)))]
    assert names == ["inner"]


def test_one_layer_into_a_stage_is_a_stem_and_more_are_a_block():
    image = layers.Input((8, 8, 3))
    x = conv(image, 4)
    for _ in range(3):
        x = layers.Add()([x, conv(x, 4)])
    x = conv(x, 6, stride=2)
    for _ in range(3):
        x = layers.Add()([conv(x, 6), x])
    x = conv(conv(x, 6), 6)  # Of the same shape, but no block hands its input on.
    for _ in range(2):
        x = layers.Add()([x, conv(x, 6)])
    x = layers.Add()([conv(x, 5), conv(conv(x, 5), 5)])
    blocks = residual_blocks(graph_of(keras.Model(image, x)))
    assert [(block.stage, block.reason) for block in blocks] == [
        *((1, reason) for reason in (FIRST, "", "")),
        *((2, reason) for reason in (FIRST, "", "")),
        *((3, reason) for reason in ("", "")),
        (4, FIRST),
    ]


def test_a_shortcut_that_the_branch_does_not_read_starts_a_stage():
    image = layers.Input((8, 8, 3))
    x = conv(image, 4)
    x = layers.Add()([x, conv(x, 4)])
    x = layers.Add()([layers.ReLU()(x), conv(x, 4)])
    x = layers.Add()([conv(conv(x, 4), 4), conv(conv(conv(x, 4), 4), 4)])
    for _ in range(2):
        x = layers.Add()([x, conv(x, 4)])
    blocks = residual_blocks(graph_of(keras.Model(image, x)))
    assert [(block.stage, block.reason) for block in blocks] == [
        (1, FIRST),
        (2, FIRST),
        (3, FIRST),
        (3, ""),
        (3, ""),
    ]


def test_choosing_leaves_two_blocks_a_stage(mobilenet_v2):
    ordered = [f"block_{number}_add" for number in (8, 5, 4, 9, 7, 15, 12, 14, 11)]
    chosen = [f"block_{number}_add" for number in (8, 5, 9, 15, 12)]
    for count in range(6):
        assert choose_blocks(mobilenet_v2, ordered, count) == tuple(chosen[:count])
    require_removable(mobilenet_v2, chosen)
    with pytest.raises(UserError) as caught:
        choose_blocks(mobilenet_v2, ordered, 6)
    assert str(caught.value) == (
        "--blocks=6: expected at most 5, because each stage keeps 2 blocks"
    )
    with pytest.raises(ValueError, match="block_2_add: not a block that may go"):
        choose_blocks(mobilenet_v2, ["block_2_add"], 1)
    with pytest.raises(UserError, match="^block_4_add: the block must stay when block_5_add, blo"):
        require_removable(mobilenet_v2, ["block_5_add", "block_4_add"])
