"""How networks are called."""

import pandas as pd
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
    assert studies.group_label("cifar10_classes_5_9", "vgg_16") == (
        "VGG-16 on CIFAR-10, classes 5–9"
    )


@pytest.mark.parametrize(
    ("data_set", "label"),
    [
        ("cifar100", "CIFAR-100"),
        ("svhn", "SVHN"),
        ("cub200", "CUB-200"),
        ("visda", "VisDA-17"),
        ("visda_classes_0_5", "VisDA-17, classes 0–5"),
        ("my_folder", "my_folder"),
        ("my_folder_classes_1_2", "my_folder, classes 1–2"),
    ],
)
def test_data_set_label(data_set, label):
    assert studies.data_set_label(data_set) == label


FRAME = pd.DataFrame(
    [
        ("mnist", "boosting_100", "boosting", "100"),
        ("mnist", "winning_100", "winning", "100"),
        ("svhn", "boosting_20", "boosting", "20"),
        ("cifar10", "other", None, None),
    ],
    columns=["data_set", "method", "family", "percent"],
)


@pytest.mark.parametrize(
    ("where", "own", "found"),
    [
        ({"family": ["boosting"]}, {}, {"mnist": 2, "svhn": 1}),
        ({"family": ["boosting"]}, {"percent": ["20"]}, {"svhn": 1}),
        # None of its own yet: all that it is made from.
        ({"family": ["boosting"]}, {"percent": ["40"]}, {"mnist": 2, "svhn": 1}),
        ({"family": studies.ANY}, {}, {"mnist": 2, "svhn": 1}),
        ({"percent": lambda texts: pd.to_numeric(texts) > 50}, {}, {"mnist": 2}),
        ({"family": ["gone"]}, {}, {}),
    ],
)
def test_a_study_has_the_groups_whose_labels_it_names(where, own, found):
    study = studies.Study("", ("data_set",), where, own)
    assert {name: len(rows) for name, _, rows in studies.grouped(FRAME, study)} == found


def test_classes_stand_beside_their_data_set():
    names = ["own", "svhn", "cifar10_classes_5_9", "mnist", "cifar10", "cifar10_classes_0_4"]
    frame = pd.DataFrame({"data_set": names, "method": "m"})
    found = studies.grouped(frame, studies.Study("", ("data_set",), {"method": ["m"]}))
    assert [name for name, _, _ in found] == [
        *("mnist", "cifar10", "cifar10_classes_0_4", "cifar10_classes_5_9", "svhn", "own"),
    ]
