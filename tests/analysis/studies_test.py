"""How networks are called."""

import pytest

from tf_tickets.analysis import studies


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ("vgg_16", "VGG-16"),
        ("resnet_18", "ResNet-18"),
        ("mobilenet_v2", "MobileNetV2"),
        ("wide_resnet_34_10", "WideResNet-34-10"),
        ("lenet_conv", "LeNet (two convolutions)"),
        ("lenet_300_100", "LeNet-300-100"),
        ("other", "other"),
    ],
)
def test_model_label(model, label):
    assert studies.model_label(model) == label


def test_group_label():
    assert studies.group_label("cifar10", "vgg_16") == "VGG-16 on CIFAR-10"
    assert studies.group_label("unknown") == "unknown"
