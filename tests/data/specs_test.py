"""The names of data sets and of parts of their classes."""

import pytest

from tf_tickets.data import specs
from tf_tickets.data.registry import load_images
from tf_tickets.errors import UserError


def test_names_and_sources():
    assert specs.DATA_SETS == ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "cub200")
    assert specs.EMBEDDED_DATA_SETS == ("mnist", "fashion_mnist")
    assert specs.SOURCES == ("embedded", "tfds", "folder")


def test_sizes_are_the_published_ones():
    sizes = {name: (*spec.split_sizes.values(),) for name, spec in specs.SPECS.items()}
    assert sizes["cifar100"] == (50_000, 10_000)
    assert sizes["svhn"] == (73_257, 26_032, 531_131)
    assert sizes["cub200"] == (5_994, 5_794)
    classes = {name: len(set(spec.class_names)) for name, spec in specs.SPECS.items()}
    assert classes == dict.fromkeys(specs.DATA_SETS, 10) | {"cifar100": 100, "cub200": 200}
    names = specs.SPECS["cifar100"].class_names
    assert list(names) == sorted(names) and (names[0], names[99]) == ("apple", "worm")


@pytest.mark.parametrize(
    "name, source",
    [
        *((name, "tfds") for name in specs.DATA_SETS),
        ("mnist", "embedded"),
        ("fashion_mnist_classes_0_1", "embedded"),
        ("mnist_classes_0_9", "tfds"),
        ("cifar100_classes_90_99", "tfds"),
        ("anything_2", "folder"),
        ("visda", "folder"),
        ("visda_classes_3_999", "folder"),
    ],
)
def test_known_names(name, source):
    specs.require_data_set(name, source=source)


IN_10 = ": expected <data set>_classes_<first>_<last> with first < last, classes 0 to 9 of"


@pytest.mark.parametrize(
    "name, source, message",
    [
        ("mnits", "tfds", "--targets=mnits is not known; use one of mnist, fashion_mnist, cifar10"),
        ("", "tfds", "--targets= is not known"),
        ("mnist_classes_4_0", "tfds", f"--targets=mnist_classes_4_0{IN_10} mnist"),
        ("mnist_classes_4_4", "tfds", f"--targets=mnist_classes_4_4{IN_10} mnist"),
        ("mnist_classes_4_10", "embedded", f"--targets=mnist_classes_4_10{IN_10} mnist"),
        ("mnist_classes_04_9", "tfds", "--targets=mnist_classes_04_9 is not known"),
        ("mnist_classes_0_8_classes_0_1", "tfds", "--targets=mnist_classes_0_8_classes_0_1 is no"),
        ("other_classes_0_1", "tfds", "--targets=other_classes_0_1 is not known"),
        ("cifar10_classes_0_4", "embedded", "--data_source=embedded: cifar10 has no embedded sa"),
        (
            "visda",
            "tfds",
            "--targets=visda: TensorFlow Datasets has no VisDA-17; give the folder t",
        ),
        ("mnist", "web", "--data_source=web is not known; use one of embedded, tfds, folder"),
        ("../up", "folder", "--targets=../up: expected letters, digits and underscores"),
        ("", "folder", "--targets=: expected letters"),
    ],
)
def test_wrong_names(name, source, message):
    with pytest.raises(UserError) as caught:
        specs.require_data_set(name, "targets", source)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize("flag", ["data_set", "source", "targets"])
@pytest.mark.parametrize("name", ["visda", "mnits"])
def test_a_folder_is_given_by_the_flags_of_the_same_program(flag, name):
    with pytest.raises(UserError) as caught:
        specs.require_data_set(name, flag)
    of_one = flag == "data_set"
    assert ("--data_source=folder --data_dir=DIR" in str(caught.value)) == of_one
    assert ("--folders=NAME=DIR" in str(caught.value)) != of_one


def test_some_classes_are_numbered_from_0():
    whole, part = (load_images(name, "embedded") for name in ("mnist", "mnist_classes_3_5"))
    assert (part.name, part.class_names) == ("mnist_classes_3_5", ("3", "4", "5"))
    expected = [
        (image.tobytes(), label - 3)
        for image, label in zip(whole.test.images, whole.test.labels, strict=True)
        if label in (3, 4, 5)
    ]
    found = zip(part.test.images, part.test.labels, strict=True)
    assert [(image.tobytes(), label) for image, label in found] == expected
    # A sixth of the 3,000 training images goes to validation; which, the seed says.
    assert (len(part.train), len(part.validation)) == (2_500, 500)
    other = load_images("mnist_classes_3_5", "embedded", seed=1)
    assert other.validation.images.tobytes() != part.validation.images.tobytes()


def test_the_parts_of_a_data_set_hold_all_of_it():
    names = ("mnist_classes_0_4", "mnist_classes_5_9")
    first, second = (load_images(name, "embedded").test for name in names)
    whole = load_images("mnist", "embedded").test
    labels = [*first.labels, *(second.labels + 5)]
    assert sorted(labels) == sorted(whole.labels)
    images = [image.tobytes() for image in (*first.images, *second.images)]
    assert sorted(images) == sorted(image.tobytes() for image in whole.images)
