"""Data sets by name, from TFDS directories in every state, written small for the test."""

import dataclasses
import io
import json
import pathlib

import numpy as np
import pytest
import requests
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_tickets.data import registry, specs
from tf_tickets.data.vision import ImageSplit
from tf_tickets.errors import UserError

SIZES = {"train": 12, "test": 5}
NO_SAMPLE = "--data_source=embedded: cifar10 has no embedded sample; use --data_source=tfds"


def pixels(n, shape=(28, 28, 1)):
    return np.random.default_rng(n).integers(0, 256, (n, *shape), dtype=np.uint8)


def write_split(path, images, labels):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for image, label in zip(images, labels, strict=True):
            png = tf.train.BytesList(value=[tf.io.encode_png(image).numpy()])
            features = {
                "image": tf.train.Feature(bytes_list=png),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


def write_set(data_dir, sizes=SIZES, shape=(28, 28, 1), name="mnist", top_label=9):
    """Writes a prepared `mnist`, or what pretends to be one; returns its version folder."""
    folder = data_dir / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    info = {"name": name, "version": "3.0.1", "fileFormat": "tfrecord", "splits": []}
    for split, size in sizes.items():
        info["splits"].append({"name": split, "numBytes": "1", "shardLengths": [str(size)]})
        labels = np.arange(size) % 10
        labels[-1] = top_label
        write_split(folder / f"mnist-{split}.tfrecord-00000-of-00001", pixels(size, shape), labels)
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def load_error(data_dir):
    """The message of the error that loading `mnist` from `data_dir` raises."""
    with pytest.raises(UserError) as caught:
        registry.load_images("mnist", "tfds", data_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def small_and_offline(monkeypatch):
    """MNIST of SIZES' few examples, and no network."""
    spec = dataclasses.replace(specs.SPECS["mnist"], split_sizes=SIZES)
    monkeypatch.setitem(specs.SPECS, "mnist", spec)

    def unreachable(*args, **kwargs):
        raise requests.ConnectionError("no route to host")

    monkeypatch.setattr(requests.Session, "request", unreachable)


@pytest.mark.parametrize(
    "name, source, data_dir, message",
    [
        ("mnits", "embedded", None, "--data_set=mnits is not known; use one of mnist, fashion_"),
        ("mnist", "tdfs", None, "--data_source=tdfs is not known; use one of embedded, tfds, fol"),
        ("cifar10", "embedded", None, NO_SAMPLE),
        ("cifar10", "embedded", "/d", NO_SAMPLE),
        ("mnist", "embedded", "/d", "--data_dir=/d is for --data_source=tfds or folder, but --dat"),
    ],
)
def test_wrong_arguments(name, source, data_dir, message):
    with pytest.raises(UserError) as caught:
        registry.load_images(name, source, data_dir)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("as_type", [str, pathlib.Path])
def test_a_prepared_directory_is_read_in_file_order(tmp_path, as_type):
    write_set(tmp_path)
    train, test = registry.read_tfds("mnist", as_type(tmp_path))
    np.testing.assert_array_equal(train.images, pixels(12))
    np.testing.assert_array_equal(train.labels, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 9])
    np.testing.assert_array_equal(test.images, pixels(5))


def test_loading_splits_the_training_part_only(tmp_path):
    write_set(tmp_path)
    data = registry.load_images("mnist", "tfds", tmp_path)
    assert (data.name, data.source, data.image_shape) == ("mnist", "tfds", (28, 28, 1))
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 2, 5)
    np.testing.assert_array_equal(data.test.images, pixels(5))
    seen = [*data.train.images, *data.validation.images]
    assert {image.tobytes() for image in seen} == {image.tobytes() for image in pixels(12)}


def test_a_tenth_of_cifar10_is_set_aside(monkeypatch):
    train, test = (ImageSplit(pixels(n, (32, 32, 3)), np.arange(n) % 10) for n in (50, 10))
    monkeypatch.setattr(registry, "read_tfds", lambda name, data_dir, image_size: (train, test))
    data = registry.load_images("cifar10", "tfds")
    assert (len(data.train), len(data.validation), len(data.test)) == (45, 5, 10)
    assert data.augment and data.class_names[0] == "airplane" and data.class_names[9] == "truck"


def test_digits_and_clothes_are_not_augmented(tmp_path):
    write_set(tmp_path)
    assert not registry.load_images("mnist", "tfds", tmp_path).augment
    assert not specs.SPECS["fashion_mnist"].augment and not specs.SPECS["svhn"].augment


def test_the_home_directory_and_the_default_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_set(tmp_path / "data")
    assert len(registry.load_images("mnist", "tfds", "~/data").test) == 5
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "data"))
    assert len(registry.load_images("mnist", "tfds").test) == 5


def test_a_missing_directory_is_not_made(tmp_path):
    absent = tmp_path / "absent"
    assert load_error(absent).startswith(f"--data_dir={absent} is not a directory; name one that")
    assert not absent.exists()


def test_a_failed_download(tmp_path):
    message = load_error(tmp_path)
    assert message.startswith(f"--data_dir={tmp_path} does not hold mnist, and downloading it fai")
    assert "(no route to host)" in message and "load('mnist', data_dir=...)" in message
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_fails_half_way(tmp_path, monkeypatch):
    def fail(builder):
        raise tfds.download.DownloadError("checksum differs\nand so on")

    monkeypatch.setattr(requests, "get", lambda *args, **kwargs: io.BytesIO())
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    assert "downloading it failed (checksum differs); copy it there" in load_error(tmp_path)


def test_a_download_goes_into_the_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(requests, "get", lambda *args, **kwargs: io.BytesIO())

    def prepare(builder):
        write_set(builder.data_dir_root)
        builder.info.read_from_directory(builder.data_dir)

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", prepare)
    assert len(registry.load_images("mnist", "tfds", tmp_path).test) == 5
    assert (tmp_path / "mnist" / "3.0.1" / "dataset_info.json").exists()


def remove_shard(folder):
    (folder / "mnist-test.tfrecord-00000-of-00001").unlink()


def cut_shard(folder):
    shard = folder / "mnist-test.tfrecord-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:1_500])


def flip_byte(folder):
    shard = folder / "mnist-train.tfrecord-00000-of-00001"
    content = bytearray(shard.read_bytes())
    content[500] ^= 0xFF
    shard.write_bytes(content)


def lose_examples(folder):
    shard = folder / "mnist-test.tfrecord-00000-of-00001"
    write_split(shard, pixels(3), [0, 1, 2])


def add_examples(folder):
    shard = folder / "mnist-test.tfrecord-00000-of-00001"
    write_split(shard, pixels(8), range(8))


def remove_info(folder):
    (folder / "dataset_info.json").unlink()


def cut_info(folder):
    (folder / "dataset_info.json").write_text('{"na')


def another_version(folder):
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("3.0.1", "3.0.0"))


@pytest.mark.parametrize(
    "damage, reason",
    [
        (remove_shard, "00000-of-00001; No such file or directory"),
        (cut_shard, "Read less bytes than requested"),
        (flip_byte, "corrupted record at "),
        (lose_examples, "expected to contain 5 elements but contained only 3 elements"),
        (add_examples, "expected to contain 5 elements but contained at least 6 elements"),
        (remove_info, "dataset_info.json is missing"),
        (cut_info, "Failed to load JSON"),
        (another_version, "constructed DatasetInfo instance"),
    ],
)
def test_a_half_prepared_directory_is_refused_and_left_alone(tmp_path, damage, reason):
    folder = write_set(tmp_path)
    damage(folder)
    before = snapshot(folder)
    message = load_error(tmp_path)
    assert message.startswith(f"--data_dir: {tmp_path / 'mnist'}")
    assert "is damaged or half prepared" in message and reason in message
    assert snapshot(folder) == before


def test_an_empty_version_folder_is_refused(tmp_path):
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    assert "half prepared (dataset_info.json is missing)" in load_error(tmp_path)


@pytest.mark.parametrize(
    "content, found",
    [
        ({"name": "fashion_mnist"}, "it is fashion_mnist"),
        ({"sizes": {"train": 12, "test": 4}}, "'test': 4}, not {'train': 12, 'test': 5}"),
        ({"sizes": {"train": 12}}, "examples {'train': 12}, not"),
        ({"top_label": 10}, "labels 0 to 10, not 0 to 9"),
        ({"top_label": -1}, "labels -1 to 9, not 0 to 9"),
    ],
)
def test_another_data_set_is_refused(tmp_path, content, found):
    folder = write_set(tmp_path, **content)
    message = load_error(tmp_path)
    assert message.startswith(f"--data_dir: {folder} is not the mnist that is needed (")
    assert found in message


def test_images_of_another_size_are_refused(tmp_path):
    folder = write_set(tmp_path, shape=(32, 32, 1))
    assert load_error(tmp_path).startswith(f"--data_dir: {folder} is damaged or half prepared (tr")
