"""Folders of images, written small for the test, as data sets."""

import struct

import numpy as np
import pytest
from PIL import Image

from tf_tickets.data import decoding, image_folder
from tf_tickets.data.registry import load_images
from tf_tickets.errors import UserError


def colour(number):
    """Of the number-th image of a data set, (r, g, b)."""
    return 10 * number, 255 - 7 * number, number


def save(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(content, np.uint8)).save(path)


def plain(path, number, height=6, width=5):
    save(path, np.full((height, width, 3), colour(number)))


@pytest.fixture
def folder(tmp_path):
    """Two classes with ten training images and one test image each, of different sizes."""
    for number in range(10):
        plain(tmp_path / "train" / "plane" / f"{number}.png", number, 5 + number)
        plain(tmp_path / "train" / "car" / f"{number}.PNG", 10 + number)
    plain(tmp_path / "test" / "plane" / "a.png", 20)
    plain(tmp_path / "test" / "car" / "b.png", 21)
    return tmp_path


def load_error(folder, image_size=4, name="toys"):
    with pytest.raises(UserError) as caught:
        load_images(name, "folder", folder, image_size=image_size)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def colours(split):
    """(colour, label) of every image, which has one colour only."""
    assert np.all(split.images == split.images[:, :1, :1])
    return {(*image[0, 0].tolist(), label) for image, label in zip(split.images, split.labels)}


def test_classes_and_images(folder):
    (folder / "train" / "car" / "notes.txt").write_text("no image")
    (folder / "train" / "readme.txt").write_text("no class")
    (folder / "train" / ".cache").mkdir()
    plain(folder / "train" / "car" / ".hidden.png", 24)
    data = load_images("toys", "folder", folder, image_size=4)
    assert (data.name, data.source, data.origin) == ("toys", "folder", "toys (folder)")
    assert data.class_names == ("car", "plane") and data.image_shape == (4, 4, 3) and data.augment
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 2)
    assert colours(data.test) == {(*colour(20), 1), (*colour(21), 0)}
    whole = {(*colour(number), int(number < 10)) for number in range(20)}
    assert colours(data.train) | colours(data.validation) == whole
    other = load_images("toys", "folder", str(folder), seed=1, image_size=4)
    assert colours(other.validation) != colours(data.validation)


@pytest.mark.parametrize("test_folder", ["validation", "val"])
def test_other_names_of_the_test_images(folder, test_folder):
    (folder / "test").rename(folder / test_folder)
    assert len(load_images("toys", "folder", folder, image_size=4).test) == 2
    plain(folder / "test" / "plane" / "c.png", 22)
    plain(folder / "test" / "car" / "c.png", 23)
    found = colours(load_images("toys", "folder", folder, image_size=4).test)
    assert found == {(*colour(22), 1), (*colour(23), 0)}


def test_some_classes_of_a_folder(folder):
    for number, name in enumerate(("apple", "zebra")):
        plain(folder / "train" / name / "1.png", number)
        plain(folder / "test" / name / "1.png", number)
    data = load_images("toys_classes_1_2", "folder", folder, image_size=2)
    assert data.class_names == ("car", "plane") and set(data.test.labels) == {0, 1}
    message = load_error(folder, name="toys_classes_2_4")
    assert message.startswith("--data_set=toys_classes_2_4: expected") and "0 to 3 of" in message


def shrunk(row, size):
    """A row of pixels, each new one the mean of old ones with a triangle's weights."""
    factor, place = len(row) / size, np.arange(len(row)) + 0.5
    centres = (np.arange(size)[:, None] + 0.5) * factor
    weights = np.maximum(0, 1 - np.abs(place - centres) / max(factor, 1))
    return (weights / weights.sum(axis=1, keepdims=True)) @ row


@pytest.mark.parametrize("height, width", [(8, 12), (4, 3), (3, 2), (9, 4)])
def test_images_are_scaled_with_antialiasing_whatever_their_proportions(folder, height, width):
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3))
    save(folder / "test" / "car" / "b.png", image)
    data = load_images("toys", "folder", folder, image_size=4)
    columns = np.apply_along_axis(shrunk, 1, image.astype(float), 4)
    expected = np.apply_along_axis(shrunk, 0, columns, 4)
    np.testing.assert_allclose(data.test.images[0], expected, atol=1.01)  # Rounded twice.


def test_pixels_of_the_right_size_are_kept(folder):
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3))
    save(folder / "test" / "car" / "b.png", image)
    data = load_images("toys", "folder", folder, image_size=4)
    np.testing.assert_array_equal(data.test.images[0], image)


def test_grey_and_transparent_images_and_jpegs_become_rgb(folder):
    save(folder / "test" / "car" / "b.png", np.full((3, 3), 77))
    save(folder / "test" / "car" / "c.png", np.full((3, 3, 4), (1, 2, 3, 128)))
    save(folder / "test" / "car" / "d.JPEG", np.full((16, 16, 3), (200, 100, 50)))
    images = load_images("toys", "folder", folder, image_size=3).test.images[:3]
    np.testing.assert_allclose(images[:, 1, 1], [[77] * 3, [1, 2, 3], [200, 100, 50]], atol=3)


def test_a_damaged_image_is_named(folder):
    path = folder / "train" / "plane" / "3.png"
    path.write_bytes(path.read_bytes()[:40])
    assert load_error(folder).startswith(f"{path} cannot be read as an image (")
    path.write_text("not an image")
    assert load_error(folder) == f"{path} cannot be read as an image (UnidentifiedImageError)"


RAMP = np.array([[0, 128, 129, 9362, 32767, 32768, 65406, 65535]], np.uint16)
# round(v · 255 / 65535), by hand; 65535 = 257 · 255.
EIGHT_BITS = [0, 0, 1, 36, 127, 128, 254, 255]


@pytest.mark.parametrize("name", ["b.png", "b.tif", "b.pgm"])
def test_sixteen_bits_become_eight(folder, name):
    (folder / "test" / "car" / "b.png").unlink()
    Image.fromarray(np.repeat(RAMP, 8, axis=0)).save(folder / "test" / "car" / name)
    image = load_images("toys", "folder", folder, image_size=8).test.images[0]
    expected = np.broadcast_to(np.array(EIGHT_BITS)[:, np.newaxis], (8, 8, 3))
    np.testing.assert_array_equal(image, expected)


def tiff(values, bits, white_is_zero=False, sample_format=1):
    """A gray TIFF of one strip, little-endian, written byte by byte (TIFF 6.0, section 2)."""
    height, width = np.shape(values)
    if bits == 12:  # Two numbers in three bytes, the upper bits first, whatever the byte order.
        digits = [f"{value:012b}" for row in values for value in row]
        number = int("".join(digits), 2)
        pixels = number.to_bytes(len(digits) * 12 // 8, "big")
    else:
        pixels = np.asarray(values).astype(f"<u{bits // 8}").tobytes()
    long, short = 4, 3
    tags = [
        (256, long, width), (257, long, height), (258, short, bits), (259, short, 1),
        (262, short, 0 if white_is_zero else 1), (273, long, 8), (277, short, 1),
        (278, long, height), (279, long, len(pixels)), (339, short, sample_format),
    ]  # fmt: skip
    entries = [struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags]
    directory = struct.pack("<H", len(tags)) + b"".join(entries) + struct.pack("<I", 0)
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + directory


@pytest.mark.parametrize(
    "bits, white_is_zero, values, expected",
    [
        (8, False, [0, 1, 254, 255], [0, 1, 254, 255]),
        (8, True, [0, 1, 254, 255], [255, 254, 1, 0]),
        # 4095 · 0.5 / 255 = 8.03 is where 0 ends; 1365 is a third, 2047 and 2048 are the middle.
        (12, False, [0, 8, 9, 1365, 2047, 2048, 4086, 4095], [0, 0, 1, 85, 127, 128, 254, 255]),
        (16, False, RAMP[0].tolist(), EIGHT_BITS),
        (16, True, RAMP[0].tolist(), [255 - value for value in EIGHT_BITS]),
    ],
)
def test_gray_tiffs_of_any_depth(folder, bits, white_is_zero, values, expected):
    count = len(values)
    path = folder / "test" / "car" / "a.tif"
    path.write_bytes(tiff([values] * count, bits, white_is_zero))
    image = load_images("toys", "folder", folder, image_size=count, channels=1).test.images[0]
    np.testing.assert_array_equal(image[..., 0], [expected] * count)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_values_of_no_known_range_are_refused_by_name(folder, kind):
    path = folder / "test" / "car" / "c.tif"
    Image.fromarray(RAMP.astype(kind)).save(path)
    assert load_error(folder) == (
        f"{path} cannot be read as an image (numbers of unknown range; save it with 8 or 16 "
        "unsigned bits a channel)"
    )


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_numbers_are_refused_by_name(folder, bits):
    path = folder / "test" / "car" / "c.tif"
    path.write_bytes(tiff([[0, 1], [2, 3]], bits, sample_format=2))
    expected = f"{path} cannot be read as an image (numbers of unknown range; "
    assert load_error(folder).startswith(expected)


def test_gray_images_where_one_channel_is_asked_for(folder):
    save(folder / "test" / "car" / "b.png", [[7, 250], [0, 3]])
    save(folder / "test" / "car" / "c.png", np.full((2, 2, 3), (200, 100, 50)))
    Image.fromarray(RAMP[:, ::7].repeat(2, axis=0)).save(folder / "test" / "car" / "d.png")
    data = load_images("toys", "folder", folder, image_size=2, channels=1)
    assert data.image_shape == (2, 2, 1)
    first, second, third = data.test.images[:3, ..., 0]
    np.testing.assert_array_equal(first, [[7, 250], [0, 3]])
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50  # ITU-R 601-2.
    np.testing.assert_allclose(second, luma, atol=0.6)
    np.testing.assert_array_equal(third, [[0, 255], [0, 255]])


def test_other_kinds_and_sub_folders_are_read_and_the_rest_is_counted(folder, capsys):
    image_folder._say.cache_clear()
    for number, kind in enumerate(["bmp", "gif", "webp", "tif", "PPM"], start=10):
        plain(folder / "test" / "car" / "more" / f"{number}.{kind}", number)
    for number in range(3):
        (folder / "train" / "car" / f"{number}.heic").write_text("not read")
    (folder / "train" / "plane" / "README").write_text("not read")
    (folder / "train" / "plane" / ".DS_Store").write_text("hidden")
    (folder / "test" / "car" / "more" / "circle").symlink_to(folder / "test" / "car")
    data = load_images("toys", "folder", folder, image_size=4)
    load_images("toys", "folder", folder, seed=1, image_size=4)
    assert np.bincount(data.test.labels).tolist() == [6, 1]
    found = data.test.images[1:6, 0, 0].astype(int)
    np.testing.assert_allclose(found, [colour(number) for number in range(10, 15)], atol=6)
    assert capsys.readouterr().err == (
        "toys: 5 files left out, as no images: 3 .heic, 2 without a suffix\n"
    )


def test_what_is_named_an_image_is_not_believed(folder):
    """Pillow would hand an EPS file to Ghostscript, whatever its name."""
    path = folder / "test" / "car" / "c.png"
    Image.fromarray(np.zeros([2, 2, 3], np.uint8)).save(path, "EPS")
    assert load_error(folder) == f"{path} cannot be read as an image (UnidentifiedImageError)"


def test_a_class_that_the_split_would_empty_is_kept(folder):
    for label in ("a_rare", "z_rare"):
        for number in (30, 31):
            plain(folder / "train" / label / f"{number}.png", number)
        plain(folder / "test" / label / "1.png", 1)
    for seed in range(5):
        data = load_images("toys", "folder", folder, seed=seed, image_size=2)
        assert np.bincount(data.train.labels).min() >= 1 and len(data.train) == 20
        assert np.bincount(data.validation.labels).tolist() == [1, 1, 1, 1]
    (folder / "train" / "z_rare" / "31.png").unlink()
    assert load_error(folder) == (
        "--data_set=toys: too few training images of class z_rare; expected at least 2 of each, "
        "one to train and one to validate on"
    )


def test_a_size_is_needed(folder):
    for size in (None, 0, -1):
        message = load_error(folder, size)
        assert message.startswith(f"--image_size={size or 0}: expected at least 1, the height and ")


def test_too_much_for_the_memory_is_refused_before_anything_is_decoded(folder, monkeypatch):
    (folder / "train" / "car" / "0.PNG").write_text("damaged, but never read")
    memory = {"SC_PAGE_SIZE": 1_000, "SC_PHYS_PAGES": 31_500}
    monkeypatch.setattr(decoding.os, "sysconf", memory.get)
    # 20 training images twice and 2 test images, three bytes a pixel: 126 bytes times 500².
    assert load_error(folder, 501) == (
        "--image_size=501: expected at most 500, as the images of toys need 0.0 GB and this "
        "machine's memory has 0.0 GB"
    )
    assert "cannot be read as an image" in load_error(folder, 20)


def test_gigabytes(folder, monkeypatch):
    monkeypatch.setattr(decoding.os, "sysconf", {"SC_PAGE_SIZE": 4_096, "SC_PHYS_PAGES": 0}.get)
    message = load_error(folder, 5_000)
    assert "at most 0, as the images of toys need 3.1 GB and this" in message


def test_wrong_folders(folder):
    assert load_error(None).startswith("--data_source=folder: needs --data_dir")
    expected = f"--data_dir={folder / 'x'}: expected folders train and test (or validation, or val"
    assert load_error(folder / "x").startswith(expected)

    (folder / "train" / "ship").mkdir()
    message = load_error(folder)
    suffixes = ".bmp, .gif, .jpeg, .jpg, .pgm, .png, .ppm, .tif, .tiff, .webp"
    assert message == f"--data_dir: {folder / 'train' / 'ship'} holds no {suffixes} file"
    plain(folder / "train" / "ship" / "1.png", 1)
    message = load_error(folder)
    assert "the folders in train and test must be the same classes, but ship is not in" in message

    for part in ("train", "test"):
        (folder / part / "car").rename(folder / f"{part}_car")
    plain(folder / "test" / "ship" / "1.png", 1)
    (folder / "train" / "plane").rename(folder / "train_plane")
    (folder / "test" / "plane").rename(folder / "test_plane")
    assert "expected two classes or more in" in load_error(folder)


def test_too_few_images_to_validate_on(folder):
    for number in range(2, 10):
        (folder / "train" / "plane" / f"{number}.png").unlink()
        (folder / "train" / "car" / f"{number}.PNG").unlink()
    message = load_error(folder)
    assert (
        message.startswith("--data_set=toys: too few training images (") and "of 4 exam" in message
    )


def test_digits_in_a_folder_are_not_augmented(folder):
    assert not load_images("svhn", "folder", folder, image_size=4).augment
