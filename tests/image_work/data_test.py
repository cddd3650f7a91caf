"""Image data of a plan: known by their content, and read again as they were."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tf_tickets.errors import UserError
from tf_tickets.image_work.data import (
    ImageSource,
    content_sha256,
    read_again,
)
from tf_tickets.work.places import Places

SOURCE = ImageSource("mnist", "embedded", None, 32, 60, 20, 30)


def write_folder(root):
    """Images of two classes, 12 to train on and 4 to test each."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for name in ("cats", "dogs"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number:02d}.png")


def change_a_pixel(path):
    pixels = np.asarray(Image.open(path)).copy()
    pixels[3, 4, 1] ^= 1
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path)
    return tmp_path


def source_of(folder, **changes):
    source = ImageSource("folder", "folder", str(folder), 8, 10, 2, 4)
    return dataclasses.replace(source, **changes)


def arrays(data):
    return [
        array
        for split in (data.train, data.validation, data.test)
        for array in (split.images, split.labels)
    ]


def assert_equal(one, other):
    for first, second in zip(arrays(one), arrays(other), strict=True):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)


def test_what_data_are_known_by():
    described, data = SOURCE.read(3)
    assert (described.name, described.source, described.seed) == ("mnist", "embedded", 3)
    assert (described.train, described.validation, described.image_size) == (60, 20, 32)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [60, 20, 30]
    assert data.image_shape == (32, 32, 1)


def test_the_same_content_is_the_same_data(folder, tmp_path_factory):
    again = tmp_path_factory.mktemp("again")
    write_folder(again)
    assert source_of(folder).read(0)[0] == source_of(again).read(0)[0]
    assert SOURCE.read(0)[0] == SOURCE.read(0)[0]


@pytest.mark.parametrize("split", ["train", "test"])
def test_one_changed_pixel_makes_other_data(folder, split):
    before, _ = source_of(folder).read(0)
    change_a_pixel(folder / split / "dogs" / "02.png")
    after, _ = source_of(folder).read(0)
    assert after.sha256 != before.sha256
    assert dataclasses.replace(after, sha256=before.sha256) == before


def test_one_changed_label_makes_other_data():
    whole = SOURCE.whole(0)
    labels = whole.test.labels.copy()
    labels[5] = (labels[5] + 1) % 10
    changed = dataclasses.replace(whole, test=dataclasses.replace(whole.test, labels=labels))
    assert content_sha256(changed) != content_sha256(whole)


def test_another_seed_makes_another_split(folder):
    """Of the same images in all."""
    (first, one), (second, other) = (source_of(folder, train_examples=0).read(k) for k in (0, 1))
    assert first.sha256 != second.sha256 and (first.seed, second.seed) == (0, 1)
    assert not np.array_equal(one.train.images, other.train.images)


def test_how_much_is_used_is_known_apart_from_the_content():
    fewer, _ = dataclasses.replace(SOURCE, train_examples=50).read(0)
    assert fewer.sha256 == SOURCE.read(0)[0].sha256
    assert fewer.train == 50
    for_test, _ = dataclasses.replace(SOURCE, test_examples=10).read(0)
    assert for_test == SOURCE.read(0)[0]  # No training depends on it.


@pytest.mark.parametrize("validation", [20, 0])
def test_data_are_read_again_as_they_were(validation):
    source = dataclasses.replace(SOURCE, validation_examples=validation, test_examples=0)
    described, data = source.read(1)
    assert_equal(read_again(described, Places()), data)


def test_data_are_read_again_with_all_test_examples():
    described, data = SOURCE.read(0)
    again = read_again(described, Places())
    assert len(data.test) == 30 and len(again.test) == len(SOURCE.whole(0).test)
    assert_equal(again.limited(0, test=30), data)


def test_data_of_a_folder_are_read_again_from_where_it_is_now(folder, tmp_path_factory):
    described, data = source_of(folder, test_examples=0).read(0)
    moved = tmp_path_factory.mktemp("moved") / "images"
    folder.rename(moved)
    assert_equal(read_again(described, Places(str(moved))), data)


@pytest.mark.parametrize("split", ["train", "test"])
def test_changed_data_are_not_read_again(folder, split):
    described, _ = source_of(folder).read(0)
    change_a_pixel(folder / split / "cats" / "01.png")
    with pytest.raises(UserError) as caught:
        read_again(described, Places(str(folder)))
    assert str(caught.value) == (
        "--data_set=folder: its content is not what it was when the run began; start the run "
        "again, which takes it for other data"
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data_set": "nope"}, "--data_set=nope"),
        ({"data_set": "cifar10"}, "--data_source=embedded: cifar10 has no embedded sample"),
        ({"image_size": -1}, "--image_size=-1: expected at least 0"),
        ({"test_examples": -1}, "--test_examples=-1: expected at least 0"),
    ],
)
def test_refuses_wrong_settings(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SOURCE, **changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image_size": 27}, "--image_size=27: expected 0 or at least 28, the size of the images"),
        ({"test_examples": 9999}, "--test_examples=9999: expected 1 to 2000"),
    ],
)
def test_refuses_what_the_data_do_not_have(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SOURCE, **changes).read(0)


@pytest.mark.parametrize("augmentation", ["crop_and_flip", "published"])
def test_scaled_images_are_read_again_as_networks_see_them(augmentation):
    source = dataclasses.replace(
        SOURCE, image_size=40, test_examples=0, sizing="scaled", augmentation=augmentation
    )
    described, data = source.read(2)
    again = read_again(dataclasses.replace(described, percent=50.0), Places())
    for images in (data, again):  # In memory they are as they were; a part is chosen later.
        assert images.image_shape == (40, 40, 1) and images.train.images.shape == (60, 28, 28, 1)
        assert images.augmentation == augmentation
        is_published = augmentation == "published"
        assert (images.augment, images.test.cropped) == (is_published, is_published)
    assert_equal(again, data)
    padded, images = dataclasses.replace(source, sizing="padded").read(2)
    assert padded != described and padded.sha256 == described.sha256
    assert images.train.images.shape == (60, 40, 40, 1)


def test_some_data_sets_have_folders_of_their_own(monkeypatch, tmp_path):
    places = Places("data", {"pets": "some/pets"})
    assert (places.of("pets"), places.of("mnist")) == ("some/pets", "data")
    monkeypatch.chdir(tmp_path)
    absolute = places.absolute()
    assert absolute.of("pets") == str(tmp_path / "some/pets")
    assert absolute.of("mnist") == str(tmp_path / "data")
    assert Places().absolute().of("mnist") is None
