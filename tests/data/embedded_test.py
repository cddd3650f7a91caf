"""The samples that come with the package, and the whole sets that they were cut from."""

import functools
import pathlib
import shutil

import numpy as np
import pytest

import tf_tickets
from tf_tickets.data import registry
from tf_tickets.data.embedded import make
from tf_tickets.errors import UserError

FOLDER = pathlib.Path(tf_tickets.__file__).parent / "data" / "embedded"
SHARED = pathlib.Path(__file__).parents[2].parent / "shared" / "tfds"

prepared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no prepared data sets in {SHARED}")
both = pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])


@functools.cache
def whole_set(name):
    return registry.read_tfds(name, SHARED)


def file_arrays(name):
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as archive:
        return dict(archive)


@pytest.fixture
def copied_sample(tmp_path, monkeypatch):
    """The MNIST sample's copy in a folder that the registry reads instead of the package's."""
    shutil.copyfile(FOLDER / "mnist.npz", tmp_path / "mnist.npz")
    monkeypatch.setattr(registry.importlib.resources, "files", lambda package: tmp_path)
    return tmp_path / "mnist.npz"


@both
def test_equally_many_of_each_class(name):
    arrays = file_arrays(name)
    assert sorted(arrays) == sorted(registry.SAMPLE_KEYS)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.uint8)}
    assert arrays["train_images"].shape == (10_000, 28, 28, 1)
    assert arrays["test_images"].shape == (2_000, 28, 28, 1)
    assert np.bincount(arrays["train_labels"]).tolist() == [1_000] * 10
    assert np.bincount(arrays["test_labels"]).tolist() == [200] * 10


def test_size_on_disk():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.npz")) <= 9_000_000


def test_licences_lie_beside_them():
    notice = (FOLDER / "NOTICE.md").read_text()
    for words in ("Yann LeCun", "ShareAlike 3.0", "Copyright (c) 2017 Zalando SE", "MIT License"):
        assert words in notice


@both
def test_loading_splits_the_training_part_only(name):
    data, arrays = registry.load_images(name, "embedded"), file_arrays(name)
    assert (data.name, data.source, data.num_classes) == (name, "embedded", 10)
    assert (len(data.train), len(data.validation), len(data.test)) == (8_333, 1_667, 2_000)
    np.testing.assert_array_equal(data.test.images, arrays["test_images"])
    np.testing.assert_array_equal(data.test.labels, arrays["test_labels"])
    seen = [
        image.tobytes() + bytes([label])
        for split in (data.train, data.validation)
        for image, label in zip(split.images, split.labels, strict=True)
    ]
    stored = zip(arrays["train_images"], arrays["train_labels"], strict=True)
    assert sorted(seen) == sorted(image.tobytes() + bytes([label]) for image, label in stored)


def test_the_seed_chooses_the_validation_examples():
    zero, again, one = (registry.load_images("mnist", "embedded", seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(zero.validation.images, again.validation.images)
    assert not np.array_equal(zero.validation.images, one.validation.images)


def test_a_class_mean_looks_like_its_name():
    data = registry.load_images("mnist", "embedded")
    centre = [data.train.images[data.train.labels == d, 13:15, 13:15].mean() for d in range(10)]
    assert np.argmin(centre) == 0 and max(centre[1], centre[8]) > 150  # A zero's hole; strokes.


@prepared
def test_the_whole_of_mnist():
    # Each digit's count in the original training and test files.
    train, test = (np.bincount(split.labels).tolist() for split in whole_set("mnist"))
    assert train == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert test == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@prepared
def test_the_whole_of_cifar10():
    data = registry.load_images("cifar10", "tfds", SHARED)
    assert (len(data.train), len(data.validation), len(data.test)) == (45_000, 5_000, 10_000)
    assert data.image_shape == (32, 32, 3) and data.num_classes == 10 and data.augment
    assert np.bincount(data.test.labels).tolist() == [1_000] * 10
    everything = np.concatenate([data.train.labels, data.validation.labels])
    assert np.bincount(everything).tolist() == [5_000] * 10
    # The sky behind airplanes and the sea around ships are blue; frogs and deer are not.
    red, blue = (
        np.array([data.test.images[data.test.labels == c, ..., channel].mean() for c in range(10)])
        for channel in (0, 2)
    )
    assert {data.class_names[c] for c in np.argsort(blue - red)[-2:]} == {"airplane", "ship"}
    fewer = data.limited(3, train=1_000, test=100)
    assert np.bincount(fewer.train.labels).tolist() == [100] * 10
    assert np.bincount(fewer.test.labels).tolist() == [10] * 10


@prepared
@both
def test_are_the_tfds_examples_at_the_cut_indices(name):
    arrays = file_arrays(name)
    parts = zip(("train", "test"), whole_set(name), (1_000, 200), strict=True)
    for part, whole, per_class in parts:
        indices = make.stratified_indices(whole.labels, per_class)
        np.testing.assert_array_equal(arrays[f"{part}_images"], whole.images[indices])
        np.testing.assert_array_equal(arrays[f"{part}_labels"], whole.labels[indices])


def test_stratified_indices():
    labels = np.array([2, 0, 1, 0, 2, 1, 0, 2, 1, 0, 0])
    indices = make.stratified_indices(labels, per_class=2, seed=0)
    assert np.all(np.diff(indices) > 0)
    assert np.bincount(labels[indices]).tolist() == [2, 2, 2]
    draws = {make.stratified_indices(labels, 2, seed).tobytes() for seed in range(10)}
    assert len(draws) > 1


def test_a_missing_sample(copied_sample):
    copied_sample.unlink()
    with pytest.raises(UserError, match=f"{copied_sample} is missing; install"):
        registry.load_images("mnist", "embedded")


def test_a_truncated_sample(copied_sample):
    copied_sample.write_bytes(copied_sample.read_bytes()[:100_000])
    with pytest.raises(UserError, match=rf"{copied_sample} is damaged \(File is not a zip file\)"):
        registry.load_images("mnist", "embedded")


def test_a_sample_with_one_other_pixel(copied_sample):
    arrays = file_arrays("mnist")
    arrays["test_images"][0, 0, 0, 0] ^= 1
    np.savez_compressed(copied_sample, **arrays)
    with pytest.raises(UserError, match=rf"{copied_sample} is damaged \(wrong SHA-256\)"):
        registry.load_images("mnist", "embedded")


def test_a_sample_without_labels(copied_sample):
    arrays = file_arrays("mnist")
    del arrays["test_labels"]
    np.savez_compressed(copied_sample, **arrays)
    with pytest.raises(UserError, match="mnist.npz is damaged .*test_labels"):
        registry.load_images("mnist", "embedded")


def test_a_flipped_byte_anywhere_is_found_or_harmless(copied_sample):
    intact, stored = copied_sample.read_bytes(), file_arrays("mnist")
    generator = np.random.default_rng(0)
    offsets = [*generator.integers(0, len(intact), 10), *range(0, 60, 3), *range(-400, 0, 20)]
    refused = 0
    for offset in offsets:
        damaged = bytearray(intact)
        damaged[offset] ^= 0xFF
        copied_sample.write_bytes(damaged)
        try:
            data = registry.load_images("mnist", "embedded")
        except UserError as error:
            assert str(copied_sample) in str(error) and "\n" not in str(error)
            refused += 1
        else:
            np.testing.assert_array_equal(data.test.images, stored["test_images"])
    assert refused >= 10
