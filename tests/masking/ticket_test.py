"""Tickets: arithmetic, immutability, and files that are what they claim to be."""

import dataclasses
import json

import numpy as np
import pytest

from tf_tickets.errors import UserError
from tf_tickets.masking import ticket as ticket_module
from tf_tickets.masking.ticket import (
    Provenance,
    Ticket,
    arrays_sha256,
    dense_ticket,
)
from tf_tickets.runs.files import load_arrays, save_arrays

SHAPES = {"hidden/kernel": (3, 5), "logits/kernel": (2, 2), "convolution/kernel": (3, 3, 1, 2)}
PROVENANCE = Provenance(
    algorithm="original",
    model="lenet_300_100",
    model_config={"image_shape": [28, 28, 1], "num_classes": 10},
    data_set="mnist",
    seed=7,
    level=3,
    initial_weights_sha256="0123456789abcdef" * 4,
    parent_sha256="fedcba9876543210" * 4,
    versions={"tensorflow": "2.21.0", "numpy": "2.4"},
)


def random_ticket(seed=0, shapes=SHAPES, density=0.5):
    generator = np.random.default_rng(seed)
    masks = {path: generator.random(shape) < density for path, shape in shapes.items()}
    return Ticket(masks, PROVENANCE)


def as_set(ticket):
    """The kept weights as (path, *index)."""
    return {
        (path, *index)
        for path, mask in ticket.masks.items()
        for index in np.ndindex(mask.shape)
        if mask[index]
    }


def one_mask(rows):
    return Ticket({"kernel": np.array(rows, bool)}, PROVENANCE)


def test_densities_by_hand():
    ticket = Ticket(
        {
            "a": np.array([[True, False, False], [True, True, False]]),
            "b": np.array([True, False]),
            "c": np.zeros((2, 1), bool),
        },
        PROVENANCE,
    )
    assert ticket.density == 4 / 10
    assert ticket.sparsity == pytest.approx(6 / 10)
    assert ticket.layer_densities == {"a": 0.5, "b": 0.5, "c": 0.0}


def test_a_dense_ticket_keeps_everything():
    ticket = dense_ticket(SHAPES, PROVENANCE)
    assert {path: mask.shape for path, mask in ticket.masks.items()} == SHAPES
    assert len(as_set(ticket)) == 15 + 4 + 18
    assert ticket.density == 1.0 and ticket.sparsity == 0.0


def test_masks_are_copied():
    mask = np.ones((2, 2), bool)
    given = {"kernel": mask}
    ticket = Ticket(given, PROVENANCE)
    mask[0, 0] = False
    given["other"] = mask
    assert list(ticket.masks) == ["kernel"] and ticket.masks["kernel"].all()


def test_nothing_can_be_assigned():
    ticket = random_ticket()
    with pytest.raises(ValueError, match="read-only"):
        ticket.masks["logits/kernel"][0, 0] = True
    with pytest.raises(TypeError):
        ticket.masks["logits/kernel"] = np.ones((2, 2), bool)
    with pytest.raises(TypeError):
        del ticket.masks["logits/kernel"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        ticket.masks = {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        ticket.provenance.seed = 8


def test_a_ticket_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one mask"):
        Ticket({}, PROVENANCE)
    with pytest.raises(ValueError, match="of no weight at all"):
        Ticket({"a": np.ones([0, 4], bool)}, PROVENANCE)


@pytest.mark.parametrize("kind", [np.float32, np.uint8, object])
def test_masks_must_be_boolean(kind):
    with pytest.raises(ValueError, match="logits/kernel.*expected bool"):
        Ticket({"logits/kernel": np.ones((2, 2), kind)}, PROVENANCE)


def test_intersection_over_union_by_hand():
    first, second = one_mask([[1, 1, 0, 0]]), one_mask([[0, 1, 1, 0]])
    assert first.intersection_over_union(second) == 1 / 3
    assert first.intersection_over_union(first) == 1.0
    assert first.intersection_over_union(one_mask([[0, 0, 1, 1]])) == 0.0
    empty = one_mask([[0, 0, 0, 0]])
    assert empty.intersection_over_union(empty) == 1.0
    assert empty.intersection_over_union(first) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_intersection_over_union_is_that_of_sets(seed):
    first, second = random_ticket(seed, density=0.3), random_ticket(seed + 100, density=0.7)
    a, b = as_set(first), as_set(second)
    assert first.intersection_over_union(second) == len(a & b) / len(a | b)
    assert second.intersection_over_union(first) == len(a & b) / len(a | b)


@pytest.mark.parametrize(
    "shapes",
    [
        {"hidden/kernel": (3, 5), "logits/kernel": (2, 2)},
        {**SHAPES, "logits/kernel": (4, 1)},
        {**{path: SHAPES[path] for path in list(SHAPES)[:2]}, "other/kernel": (3, 3, 1, 2)},
    ],
)
def test_tickets_of_different_networks_do_not_compare(shapes):
    ticket, other = random_ticket(), dense_ticket(shapes, PROVENANCE)
    with pytest.raises(ValueError, match="different weights"):
        ticket.intersection_over_union(other)
    assert not ticket.is_within(other)
    assert not other.is_within(ticket)


@pytest.mark.parametrize("seed", range(20))
def test_is_within_is_the_subset_of_sets(seed):
    shapes = {"a": (2,), "b": (1, 2)}
    first, second = random_ticket(seed, shapes), random_ticket(seed + 100, shapes, 0.8)
    assert first.is_within(second) == (as_set(first) <= as_set(second))
    assert second.is_within(first) == (as_set(second) <= as_set(first))


def test_is_within_by_hand():
    ticket = random_ticket()
    assert ticket.is_within(ticket)
    assert ticket.is_within(dense_ticket(SHAPES, PROVENANCE))
    assert not dense_ticket(SHAPES, PROVENANCE).is_within(ticket)
    # One weight too many in the last layer alone.
    assert not one_mask([[1, 1, 0]]).is_within(one_mask([[1, 0, 1]]))


def test_the_hash_changes_with_any_single_bit():
    ticket = random_ticket()
    hashes = {ticket.sha256}
    for path, mask in ticket.masks.items():
        for index in np.ndindex(mask.shape):
            flipped = mask.copy()
            flipped[index] = not flipped[index]
            hashes.add(Ticket({**ticket.masks, path: flipped}, PROVENANCE).sha256)
    assert len(hashes) == 1 + 15 + 4 + 18


def test_the_hash_is_of_names_and_shapes_too_but_of_nothing_else():
    ticket = random_ticket()
    masks = dict(ticket.masks)
    other_provenance = dataclasses.replace(PROVENANCE, seed=8, level=4)
    assert Ticket(dict(reversed(masks.items())), other_provenance).sha256 == ticket.sha256
    renamed = {f"{path}x": mask for path, mask in masks.items()}
    assert Ticket(renamed, PROVENANCE).sha256 != ticket.sha256
    reshaped = {**masks, "hidden/kernel": masks["hidden/kernel"].reshape(5, 3)}
    assert Ticket(reshaped, PROVENANCE).sha256 != ticket.sha256


def test_equal_tickets_have_equal_masks_and_provenance():
    ticket = random_ticket()
    same = Ticket({path: mask.copy() for path, mask in ticket.masks.items()}, PROVENANCE)
    assert ticket == same and hash(ticket) == hash(same)
    assert ticket != random_ticket(seed=1)
    assert ticket != Ticket(ticket.masks, dataclasses.replace(PROVENANCE, level=4))
    assert ticket != ticket.masks


def test_the_hash_of_arrays_does_not_depend_on_memory_order():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    original = arrays_sha256({"a": array})
    assert arrays_sha256({"a": np.asfortranarray(array)}) == original
    assert arrays_sha256({"a": array.astype(np.float64)}) != original
    assert arrays_sha256({"a": array.T}) != original
    assert arrays_sha256({"a": np.nextafter(array, np.float32(9))}) != original


@pytest.mark.parametrize(
    "shapes",
    [
        SHAPES,
        {"a": (8,)},
        {"a": (1,)},
        {"a": (7, 1)},
        {"a": (9,), "b": (3, 3, 3)},
        {"a": (0, 4), "b": (2,)},
    ],
)
def test_a_file_gives_the_ticket_back(tmp_path, shapes):
    ticket = random_ticket(shapes=shapes)
    path = tmp_path / "ticket.npz"
    ticket.save(path)
    loaded = Ticket.load(path)
    assert set(loaded.masks) == set(ticket.masks)
    for name, mask in ticket.masks.items():
        assert loaded.masks[name].dtype == bool
        np.testing.assert_array_equal(loaded.masks[name], mask, strict=True)
        assert not loaded.masks[name].flags.writeable
    assert loaded.provenance == PROVENANCE
    assert loaded.sha256 == ticket.sha256


def test_equal_tickets_give_equal_files_and_masks_take_a_bit_a_weight(tmp_path):
    for name in ("first", "second"):
        random_ticket(shapes={"kernel": (784, 300)}).save(tmp_path / name)
    content = (tmp_path / "first").read_bytes()
    assert content == (tmp_path / "second").read_bytes()
    assert len(content) < 784 * 300 / 8 + 2_000


def write_variant(path, change_metadata=None, change_arrays=None):
    """Saves a ticket, then rewrites its file with something changed."""
    random_ticket().save(path)
    arrays = load_arrays(path)
    metadata = json.loads(arrays["metadata"].tobytes())
    if change_metadata:
        change_metadata(metadata)
    arrays["metadata"] = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    if change_arrays:
        change_arrays(arrays)
    save_arrays(path, arrays)


def refusal(path, load=Ticket.load):
    with pytest.raises(UserError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert len(message) < len(str(path)) + 250
    return message


def test_rewriting_without_a_change_is_accepted(tmp_path):
    # So that the refusals below come from their changes.
    path = tmp_path / "ticket.npz"
    write_variant(path)
    assert Ticket.load(path).sha256 == random_ticket().sha256


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_is_refused(tmp_path, version):
    path = tmp_path / "ticket.npz"
    write_variant(path, lambda metadata: metadata.update(format=version))
    assert f"format {version}" in refusal(path) and "reads 1" in refusal(path)


def test_a_missing_mask_is_refused(tmp_path):
    path = tmp_path / "ticket.npz"
    write_variant(path, change_arrays=lambda arrays: arrays.pop("logits/kernel"))
    message = refusal(path)
    held, described = message.split("its description says")
    assert "logits/kernel" not in held and "logits/kernel" in described


def test_an_additional_mask_is_refused(tmp_path):
    path = tmp_path / "ticket.npz"
    write_variant(path, change_arrays=lambda arrays: arrays.update(extra=np.zeros(1, np.uint8)))
    held, described = refusal(path).split("its description says")
    assert "'extra'" in held and "'extra'" not in described


def test_a_renamed_mask_is_refused(tmp_path):
    path = tmp_path / "ticket.npz"
    write_variant(
        path, change_arrays=lambda arrays: arrays.update(renamed=arrays.pop("logits/kernel"))
    )
    assert "'renamed'" in refusal(path) and "logits/kernel" in refusal(path)


@pytest.mark.parametrize(
    "shape",
    [
        [3, 6],
        [40],
        [2, 2],
        [],
        [-3, -5],
        [3.0, 5.0],
        "35",
        None,
        15,
        [float("inf")],
        [True, 15],
        [2**32, 2**32],
        [10**4000],
        [1] * 100 + [15],
    ],
)
def test_a_shape_that_does_not_fit_is_refused(tmp_path, shape):
    path = tmp_path / "ticket.npz"
    write_variant(path, lambda metadata: metadata["shapes"].update({"hidden/kernel": shape}))
    assert "not a ticket" in refusal(path)


def test_more_weights_than_any_network_has_are_refused_before_they_are_unpacked(
    tmp_path, monkeypatch
):
    path = tmp_path / "ticket.npz"
    random_ticket().save(path)
    monkeypatch.setattr(ticket_module, "_MOST_WEIGHTS", 15 + 4 + 18)
    assert Ticket.load(path) == random_ticket()
    monkeypatch.setattr(ticket_module, "_MOST_WEIGHTS", 15 + 4 + 17)
    monkeypatch.setattr(np, "unpackbits", None)
    assert "masks of 37 weights, more than 36" in refusal(path)


def test_masks_larger_than_the_memory_are_refused(tmp_path, monkeypatch):
    def take_too_much(*_, **__):
        raise MemoryError

    path = tmp_path / "ticket.npz"
    random_ticket().save(path)
    monkeypatch.setattr(ticket_module.np, "unpackbits", take_too_much)
    assert refusal(path) == f"{path}: its masks take more memory than there is"


def test_a_shape_of_the_same_size_is_refused(tmp_path):
    path = tmp_path / "ticket.npz"
    write_variant(path, lambda metadata: metadata["shapes"].update({"hidden/kernel": [5, 3]}))
    assert "hash" in refusal(path)


@pytest.mark.parametrize("name", SHAPES)
def test_a_flipped_mask_bit_is_refused(tmp_path, name):
    path = tmp_path / "ticket.npz"

    def flip(arrays):
        bits = arrays[name].copy()
        bits[0] ^= 0b1000_0000
        arrays[name] = bits

    write_variant(path, change_arrays=flip)
    assert "damaged" in refusal(path) and "hash" in refusal(path)


def test_masks_that_are_not_packed_are_refused(tmp_path):
    path = tmp_path / "ticket.npz"
    write_variant(
        path, change_arrays=lambda arrays: arrays.update({"logits/kernel": np.ones((2, 2), bool)})
    )
    assert "not a ticket" in refusal(path)


@pytest.mark.parametrize(
    "key", ["format", "shapes", "masks_sha256", "provenance", "provenance.seed", "provenance.new"]
)
def test_an_incomplete_or_unknown_description_is_refused(tmp_path, key):
    path = tmp_path / "ticket.npz"

    def change(metadata):
        if key == "provenance.new":
            metadata["provenance"]["new"] = 1
        elif key == "provenance.seed":
            del metadata["provenance"]["seed"]
        else:
            del metadata[key]

    write_variant(path, change)
    assert key.split(".")[-1] in refusal(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_config", None),
        ("model_config", []),
        ("data_set", None),
        ("seed", "x"),
        ("level", -5),
        ("level", True),
        ("level", 10**4000),
        ("seed", -1),
        ("data_set", "x" * 1_001),
        ("data_set", "two\nlines"),
        ("parent_sha256", 5),
        ("versions", None),
        ("versions", {"numpy": 2}),
    ],
)
def test_a_forged_provenance_is_refused(tmp_path, field, value):
    path = tmp_path / "ticket.npz"
    write_variant(path, lambda metadata: metadata["provenance"].update({field: value}))
    line = refusal(path)
    assert "not a ticket" in line and (field in line or "printable" in line)


@pytest.mark.parametrize("text", [b"[]", b"3", b"{", b"\xff\xfe\x00", b"", b"[" * 100_000])
def test_metadata_of_something_else_is_refused(tmp_path, text):
    path = tmp_path / "ticket.npz"
    write_variant(
        path, change_arrays=lambda arrays: arrays.update(metadata=np.frombuffer(text, np.uint8))
    )
    assert "not a ticket" in refusal(path)


def test_an_archive_of_plain_arrays_is_refused(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, kernel=np.ones((2, 2)))
    assert "not a ticket" in refusal(path)


class Bomb:
    """Fails the test when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def test_pickled_content_is_refused_and_not_run(tmp_path):
    path = tmp_path / "ticket.npz"
    random_ticket().save(path)
    arrays = load_arrays(path)
    np.savez(path, **{**arrays, "logits/kernel": np.array([Bomb()], object)}, allow_pickle=True)
    assert "damaged" in refusal(path)
    np.savez(path, **{**arrays, "metadata": np.array(Bomb(), object)}, allow_pickle=True)
    assert "damaged" in refusal(path)


def test_a_truncated_or_missing_file_is_refused(tmp_path):
    path = tmp_path / "ticket.npz"
    assert "no such file" in refusal(path)
    random_ticket().save(path)
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert "damaged" in refusal(path)


def test_no_flipped_bit_gives_another_ticket(tmp_path):
    path = tmp_path / "ticket.npz"
    ticket = random_ticket()
    ticket.save(path)
    content = path.read_bytes()
    accepted = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            loaded = Ticket.load(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        else:
            accepted += 1
            assert loaded.sha256 == ticket.sha256
            assert loaded.provenance == ticket.provenance
    assert accepted < len(content) / 4  # Dates and the like.
