"""CIFAR-100, SVHN and CUB-200 as TensorFlow Datasets prepares them, written small for the test."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_tickets.data import decoding, specs
from tf_tickets.data.registry import load_images
from tf_tickets.errors import UserError

SIZES = {"train": 20, "test": 6}


def feature(value):
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def write_split(path, examples):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            features = {name: feature(value) for name, value in example.items()}
            message = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(message.SerializeToString())


def write_set(data_dir, name, splits):
    """Writes splits, lists of examples, as the data set `name` of TFDS; returns its folder."""
    version = str(tfds.builder_cls(name).VERSION)
    folder = data_dir / name / version
    folder.mkdir(parents=True)
    info = {"name": name, "version": version, "fileFormat": "tfrecord", "splits": []}
    for split, examples in splits.items():
        shards = {"numBytes": "1", "shardLengths": [str(len(examples))]}
        info["splits"].append({"name": split, **shards})
        write_split(folder / f"{name}-{split}.tfrecord-00000-of-00001", examples)
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def pixels(count, height=32, width=32, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def png(image):
    return tf.io.encode_png(image).numpy()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Data sets of SIZES' few examples."""
    for name in ("cifar100", "svhn", "cub200"):
        sizes = SIZES | {"extra": 2} if name == "svhn" else SIZES
        spec = dataclasses.replace(specs.SPECS[name], split_sizes=sizes)
        monkeypatch.setitem(specs.SPECS, name, spec)


def check(data, images):
    """Whether these are the images of the test split, and the seen ones those of the other."""
    np.testing.assert_array_equal(data.test.images, images["test"])
    seen = [*data.train.images, *data.validation.images]
    expected = {image.tobytes() for image in images["train"]}
    assert len(seen) == 20 and {image.tobytes() for image in seen} == expected
    assert len(data.validation) == 2


def test_cifar100_has_the_fine_labels(tmp_path):
    images = {split: pixels(size, seed=size) for split, size in SIZES.items()}
    splits = {
        split: [
            {"id": b"0", "image": png(image), "label": 99 - number, "coarse_label": number % 20}
            for number, image in enumerate(images[split])
        ]
        for split in SIZES
    }
    write_set(tmp_path, "cifar100", splits)
    data = load_images("cifar100", "tfds", tmp_path)
    check(data, images)
    assert data.test.labels.tolist() == [99, 98, 97, 96, 95, 94]
    assert data.num_classes == 100 and data.augment
    part = load_images("cifar100_classes_80_98", "tfds", tmp_path)
    assert part.test.labels.tolist() == [18, 17, 16, 15, 14]
    assert part.class_names[:2] == ("squirrel", "streetcar") and part.class_names[18] == "woman"


def svhn(**sizes):
    return {
        split: [
            {"id": b"0", "image": png(image), "label": number % 10}
            for number, image in enumerate(pixels(size, seed=size))
        ]
        for split, size in sizes.items()
    }


def test_svhn_without_its_extra_images(tmp_path):
    write_set(tmp_path, "svhn_cropped", svhn(**SIZES, extra=2))
    data = load_images("svhn", "tfds", tmp_path)
    check(data, {split: pixels(size, seed=size) for split, size in SIZES.items()})
    assert (data.name, data.num_classes, data.augment) == ("svhn", 10, False)


def test_a_part_of_svhn_is_refused(tmp_path):
    folder = write_set(tmp_path, "svhn_cropped", svhn(**SIZES))
    with pytest.raises(UserError, match="not the svhn_cropped that is needed") as caught:
        load_images("svhn", "tfds", tmp_path)
    assert str(caught.value).startswith(f"--data_dir: {folder} is") and "extra" in str(caught.value)


def cub200(images):
    """Examples as TFDS has them, but for what is not read."""
    return [{"image": png(image), "label": 199 - number} for number, image in enumerate(images)]


def write_birds(data_dir):
    """Images of 4x4 pixels, each repeated in 3 rows and 2 columns; returns them without that."""
    images = {split: pixels(size, 4, 4, seed=size) for split, size in SIZES.items()}
    large = {split: np.repeat(np.repeat(images[split], 3, 1), 2, 2) for split in SIZES}
    for split in SIZES:  # The first one is of another size than all others.
        large[split] = [images[split][0], *large[split][1:]]
    write_set(data_dir, "caltech_birds2011", {name: cub200(large[name]) for name in SIZES})
    return images


def test_cub200_is_scaled_to_squares(tmp_path):
    images = write_birds(tmp_path)
    data = load_images("cub200", "tfds", tmp_path, image_size=4)
    assert data.image_shape == (4, 4, 3) and data.num_classes == 200 and data.augment
    assert data.test.labels.tolist() == [199, 198, 197, 196, 195, 194]
    assert (len(data.train), len(data.validation)) == (18, 2)
    np.testing.assert_array_equal(data.test.images[0], images["test"][0])
    rows, columns = triangle(4, 3), triangle(4, 2)
    expected = np.einsum("ry,cx,nyxd->nrcd", rows, columns, images["test"][1:].astype(float))
    np.testing.assert_allclose(data.test.images[1:], expected, atol=1.01)


def triangle(size, factor):
    """[new, old]: weights in new pixels of the old ones that are repeated `factor` times."""
    places = np.arange(size * factor) + 0.5
    centres = (np.arange(size)[:, None] + 0.5) * factor
    weights = np.maximum(0, 1 - np.abs(places - centres) / factor)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.reshape(size, size, factor).sum(axis=2)  # Old pixels side by side are equal.


def birds_error(data_dir, image_size=4):
    with pytest.raises(UserError) as caught:
        load_images("cub200", "tfds", data_dir, image_size=image_size)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_cub200_needs_a_size_that_fits_the_memory(tmp_path, monkeypatch):
    assert birds_error(tmp_path, None).startswith("--image_size=0: expected at least 1, the hei")
    memory = {"SC_PAGE_SIZE": 1_000, "SC_PHYS_PAGES": 13_800}
    monkeypatch.setattr(decoding.os, "sysconf", memory.get)
    # 20 training images twice and 6 test images, three bytes a pixel: 138 bytes times 316².
    assert birds_error(tmp_path, 317).startswith("--image_size=317: expected at most 316, as the")


def test_a_damaged_bird_is_named(tmp_path):
    write_birds(tmp_path)
    (shard,) = (tmp_path / "caltech_birds2011").rglob("*test.tfrecord*")
    examples = cub200(pixels(6, 5, 7))
    write_split(shard, [*examples[:4], examples[4] | {"image": b"no bird"}, examples[5]])
    message = birds_error(tmp_path)
    assert message.startswith("--data_dir: image 4 of the test split in ")
    assert message.endswith(" cannot be read as an image (UnidentifiedImageError)")


def test_a_shortened_file_of_birds(tmp_path):
    write_birds(tmp_path)
    (shard,) = (tmp_path / "caltech_birds2011").rglob("*train.tfrecord*")
    shard.write_bytes(shard.read_bytes()[:1_000])
    assert "is damaged or half prepared (train split: " in birds_error(tmp_path)
