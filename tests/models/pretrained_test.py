"""Public weights of ResNet-50, where PyTorch is not needed."""

import hashlib
import sys

import numpy as np
import pytest
import safetensors.numpy
import tf_keras as keras

from tests.models import torchvision_resnet
from tests.models.torchvision_resnet import (
    LAYOUTS,
    NARROW_LOGITS,
    NARROW_WIDTH,
    OTHER_NORMALIZER,
    in_robustness_library,
    narrow_state_dict,
)
from tf_tickets.errors import UserError
from tf_tickets.models.pretrained import load_pretrained, pretrained_model
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import head_paths, read_weights, with_body, write_weights


def narrow_model(num_classes=3, name="resnet_50_v1_5", channels=3):
    return build_model(name, (37, 45, channels), num_classes, 5, width_multiplier=NARROW_WIDTH / 64)


def saved(tmp_path, arrays, name="weights.safetensors"):
    safetensors.numpy.save_file(arrays, tmp_path / name)
    return str(tmp_path / name)


def message(source, model):
    with pytest.raises(UserError) as caught:
        load_pretrained(source, model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_are_those_that_pytorch_gave(tmp_path, layout):
    wrap, normalizer = LAYOUTS[layout]
    model, source = narrow_model(), saved(tmp_path, wrap(narrow_state_dict()))
    pretrained = load_pretrained(source, model)
    write_weights(model, pretrained.body | pretrained.head)
    logits = model(torchvision_resnet.images(37, 45))
    np.testing.assert_allclose(logits, NARROW_LOGITS[normalizer], atol=1e-4)


def test_the_head_is_apart_and_may_have_other_classes(tmp_path):
    source = saved(tmp_path, narrow_state_dict())
    model = narrow_model(num_classes=7)
    start = read_weights(model)
    pretrained = load_pretrained(source, model)
    assert pretrained.source == source and pretrained.num_classes == 3
    with open(source, "rb") as file:
        assert pretrained.sha256 == hashlib.sha256(file.read()).hexdigest()
    assert {path: array.shape for path, array in pretrained.head.items()} == {
        "logits/kernel": (32 * NARROW_WIDTH, 3),
        "logits/bias": (3,),
    }
    for path, array in read_weights(model).items():
        np.testing.assert_array_equal(array, start[path])
    write_weights(model, with_body(model, pretrained.body))
    kernel = read_weights(model)["stage_3/block_2/conv_2/kernel"]
    np.testing.assert_array_equal(
        kernel, narrow_state_dict()["layer3.1.conv2.weight"].transpose(2, 3, 1, 0)
    )
    for path in head_paths(model):
        np.testing.assert_array_equal(read_weights(model)[path], start[path])


def without(arrays, *names):
    return {name: array for name, array in arrays.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda a: without(a, "layer3.1.bn2.running_var"), "without layer3.1.bn2.running_var"),
        (lambda a: without(a, "fc.bias"), "without fc.bias"),
        (
            lambda a: {name: array for name, array in a.items() if not name.startswith("layer4.2")},
            "without layer4.2.conv1.weight, layer4.2.bn1.weight, layer4.2.bn1.bias and 12 more",
        ),
        (
            lambda a: a | {"layer5.weight": np.zeros(2), "conv1.bias": np.zeros(4)},
            "with an unknown conv1.bias, layer5.weight",
        ),
        (
            lambda a: a | {"conv1.weight": np.zeros((4, 1, 7, 7))},
            "with conv1.weight of shape (4, 1, 7, 7) instead of (4, 3, 7, 7)",
        ),
        (
            lambda a: a | {"fc.weight": a["fc.weight"][:2]},
            "with fc.weight of shape (2, 128) instead of (3, 128)",
        ),
        (
            lambda a: (
                without(a, "bn1.bias") | {"bn1.offset": np.zeros(4), "bn1.weight": np.ones(5)}
            ),
            "without bn1.bias; with an unknown bn1.offset; "
            "with bn1.weight of shape (5,) instead of (4,)",
        ),
        (
            lambda a: without(
                in_robustness_library(a, OTHER_NORMALIZER), "module.normalizer.new_std"
            ),
            "without normalizer.new_std",
        ),
        (
            lambda a: in_robustness_library(a, OTHER_NORMALIZER) | {"module.ema": np.zeros(1)},
            "with an unknown ema",
        ),
    ],
)
def test_a_mismatch_is_refused_by_name(tmp_path, change, expected):
    source = saved(tmp_path, change(narrow_state_dict()))
    assert message(source, narrow_model()) == (
        f"{source}: not the weights of resnet_50_v1_5: {expected}"
    )


def test_another_network_or_other_images_are_refused(tmp_path):
    source = saved(tmp_path, narrow_state_dict())
    assert message(source, narrow_model(name="resnet_50_v1")) == (
        f"{source}: holds weights of resnet_50_v1_5, not of resnet_50_v1"
    )
    assert message("imagenet", narrow_model()) == (
        "imagenet: holds weights of resnet_50_v1, not of resnet_50_v1_5"
    )
    assert message(source, narrow_model(channels=1)) == (
        f"{source}: holds weights for RGB images, got images of 1 channel(s)"
    )


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    model, path = narrow_model(), tmp_path / "weights.safetensors"
    assert message(str(path), model) == f"{path}: no such file"
    path.write_bytes(b"<html>")
    assert message(str(path), model).startswith(f"{path}: no safetensors file: ")

    monkeypatch.setitem(sys.modules, "torch", None)
    checkpoint = tmp_path / "weights.pt"
    checkpoint.write_bytes(b"")
    assert message(str(checkpoint), model) == (
        f"{checkpoint}: reading it takes PyTorch: pip install 'tf_tickets[pytorch]', or convert "
        "it to safetensors elsewhere"
    )


def test_the_model_of_a_source():
    assert pretrained_model("imagenet") == "resnet_50_v1"
    for name in ("a.pt", "b/c.pth", "model_best.pth.tar", "resnet50_l2_eps3.ckpt", "d.safetensors"):
        assert pretrained_model(name) == "resnet_50_v1_5"
    with pytest.raises(UserError) as caught:
        pretrained_model("weights.h5")
    assert str(caught.value) == (
        "weights.h5: expected imagenet or a file that ends with one of .pt, .pth, .ckpt, .tar, "
        ".safetensors"
    )


def random_application():
    """Keras' ResNet-50 with random biases and BatchNorm statistics too."""
    application = keras.applications.ResNet50(weights=None, classifier_activation=None)
    random = np.random.RandomState(2)
    for weight in application.weights:
        if "kernel" not in weight.name:
            positive = "gamma" in weight.name or "variance" in weight.name
            low = 0.5 if positive else -0.5
            weight.assign(random.uniform(low, low + 1, weight.shape))
    return application


@pytest.fixture(scope="module")
def application():
    keras.utils.set_random_seed(0)
    return random_application()


def test_the_weights_for_imagenet_give_the_applications_logits(tmp_path, monkeypatch, application):
    path = tmp_path / "resnet50.h5"
    application.save_weights(path)
    asked = []
    monkeypatch.setattr(
        keras.utils, "get_file", lambda *args, **kwargs: asked.append(args) or str(path)
    )
    model = build_model("resnet_50_v1", (64, 64, 3), 1000, 0)
    pretrained = load_pretrained("imagenet", model)
    assert "tensorflow/keras-applications/resnet/resnet50_weights" in asked[0][1]
    assert pretrained.num_classes == 1000 and pretrained.source == "imagenet"
    assert pretrained.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    write_weights(model, pretrained.body | pretrained.head)
    batch = torchvision_resnet.images(64, 64)
    peer = keras.applications.ResNet50(
        weights=None, input_shape=(64, 64, 3), classifier_activation=None
    )
    peer.set_weights(application.get_weights())
    expected = peer(keras.applications.resnet50.preprocess_input(batch * 255)).numpy()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(model(batch) / scale, expected / scale, atol=1e-5)


def test_without_a_network_the_error_is_one_line(monkeypatch):
    def get_file(*args, **kwargs):
        raise Exception("URL fetch failure on https://...: None -- \n[Errno -2] Name unknown")

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert message("imagenet", narrow_model(name="resnet_50_v1")) == (
        "imagenet: the weights cannot be downloaded (URL fetch failure on https://...: None -- "
        "[Errno -2] Name unknown); without a network, put "
        "resnet50_weights_tf_dim_ordering_tf_kernels.h5 into ~/.keras/models"
    )
