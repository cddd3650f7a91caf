"""Files that were damaged, or made to do damage, given to every reader of the package."""

import dataclasses
import functools
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import safetensors.numpy
from PIL import Image

from tests.models.torchvision_resnet import narrow_state_dict
from tf_tickets.attacks import text_resources
from tf_tickets.data.decoding import decode_squares
from tf_tickets.errors import UserError
from tf_tickets.masking.ticket import Provenance, Ticket, arrays_sha256
from tf_tickets.models.pretrained import load_pretrained
from tf_tickets.models.registry import build_model
from tf_tickets.runs.files import load_arrays, load_json, save_arrays
from tf_tickets.runs.results import Result, read_record, read_results, to_csv, write_record
from tf_tickets.structured.surgery import Removal

SEED = 14
_LONGEST_MESSAGE = 300


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
      name: what it is called.
      suffix: of the file.
      content: a sound file.
      read: gives what is in a file, as something that can be compared.
      checked: whether the file can be told from a changed one, so that what is read must equal
        what was written. Of others it is enough that they are read, or refused, in order.
      variants: how many damaged ones are tried.
    """

    name: str
    suffix: str
    content: bytes
    read: Callable[[Path], object]
    checked: bool
    variants: int


def attempts(scratch: Path) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """See tests/hostile: every damaged file, as a name and a function that tries it."""
    scratch.mkdir(parents=True, exist_ok=True)
    for number, kind in enumerate(_kinds(scratch)):
        path = scratch / f"file{kind.suffix}"
        path.write_bytes(kind.content)
        sound = kind.read(path)
        variants = damaged(kind.content, kind.variants, np.random.default_rng([SEED, number]))
        for what, content in variants:
            expected = sound if kind.checked else None
            yield f"{kind.name}: {what}", functools.partial(_try, kind, path, content, expected)
        for what, content in _made_up(kind):
            yield f"{kind.name}: {what}", functools.partial(_try, kind, path, content)
        for what, place in (("a folder", scratch), ("missing", scratch / f"no{kind.suffix}")):
            yield f"{kind.name}: {what}", functools.partial(_try, kind, place)


def _try(kind, path, content=None, expected=None):
    if content is not None:
        path.write_bytes(content)
    try:
        found = kind.read(path)
    except UserError as error:
        message = str(error)
        if len(message) > _LONGEST_MESSAGE or len(message.splitlines()) != 1:
            return f"a message of {len(message)} characters: {message[:80]!r}"
        return None
    except BaseException as error:  # That is what is looked for.
        return f"{type(error).__name__}: {str(error)[:80]!r}"
    return None if expected is None or found == expected else "read as something else"


def damaged(content: bytes, count: int, random: np.random.Generator):
    """Changed files: a bit or a byte, an end or a middle that is lost, doubled, moved or zero."""
    for number in range(count):
        how = ("bit", "byte", "cut", "lost", "added", "moved", "zeros")[number % 7]
        start, end = sorted(random.integers(0, len(content) + 1, 2).tolist())
        if number % 2:  # Where headers and lists of entries are.
            start = random.integers(0, min(len(content), 120)) * random.choice([1, -1])
            start %= len(content)
            end = min(len(content), start + int(random.integers(1, 40)))
        start = min(start, len(content) - 1)
        before, middle, after = content[:start], content[start:end], content[end:]
        changed = {
            "bit": before + bytes([content[start] ^ 1 << number % 8]) + content[start + 1 :],
            "byte": before + random.bytes(1) + content[start + 1 :],
            "cut": before,
            "lost": before + after,
            "added": before + random.bytes(int(random.integers(1, 20))) + content[start:],
            "moved": before + after + middle,
            "zeros": before + bytes(len(middle)) + after,
        }[how]
        yield f"{number} {how} at {start}", changed


def _made_up(kind):
    """Files that were written to do damage."""
    yield "empty", b""
    yield "a web page", b"<html><body>404</body></html>\n" * 50
    yield "zeros", bytes(5_000)
    yield "brackets", b"[" * 200_000
    yield "objects", b'{"a":' * 50_000
    yield "one long line", b"x" * 300_000
    yield "a long field", b'"' + b"x" * 300_000
    yield "no UTF-8", b"\xff\xfe" * 1_000
    for name, value in _JSON_VALUES.items():
        yield f"JSON, {name}", json.dumps(value).encode()
    if kind.suffix == ".npz":
        yield from _made_up_archives()
    if kind.name == "ticket":
        yield from _made_up_tickets(kind.content)
    if kind.suffix == ".csv":
        yield from _made_up_tables(kind.content)
    if kind.name == "word vectors":
        yield from _made_up_vectors()
    if kind.name.endswith("bits"):
        yield from _made_up_images()
    if kind.suffix == ".safetensors":
        yield from _made_up_safetensors()


_JSON_VALUES = {
    "null": None,
    "a number": 3,
    "infinity": float("inf"),
    "NaN": float("nan"),
    "a digit for each atom": 10**4_000,
    "text": "x" * 1_000,
    "a list": [1, "a", None],
    "an object": {"a": {"b": 1}},
    "a list in an object": {"a": [1]},
    "text for a list": {"a": "bcd"},
    "nothing": {},
    "removal of text": {"filters": {"conv": "0"}, "blocks": []},
    "removal of truth": {"filters": {"conv": [True]}, "blocks": []},
    "removal of blocks": {"filters": {}, "blocks": [1]},
    "removal of a list": {"filters": [1], "blocks": []},
}


def _archive(entries, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _header(descr="<f4", shape="(2,)", version=b"\x01\x00"):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = len(text).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + size + text


def _made_up_archives():
    headers = {
        "ten terabytes": _header(shape="(10000000000000,)"),
        "a size below zero": _header(shape="(-2,)") + bytes(8),
        "a hundred axes": _header(shape=str((1,) * 100)) + bytes(4),
        "a size too large for a number": _header(shape=f"({10**400},)"),
        "objects": _header("|O") + bytes(16),
        "no bytes a number": _header("|V0", "(1000000000000,)"),
        "fields": _header([("x", "<f4")]) + bytes(8),
        "text": _header("<U1") + b"\xff" * 8,
        "another version": _header(version=b"\x03\x00") + bytes(8),
        "version 9": b"\x93NUMPY\x09\x00" + bytes(100),
        "brackets": b"\x93NUMPY\x01\x00\x28\x23" + b"(" * 9_000,
        "a bracket in version 2": b"\x93NUMPY\x02\x00\x28\x23\x00\x00" + b"(" * 9_000,
        "code": _header()[:8] + b"\x30\x00__import__('os').system('touch PWNED')          \n",
    }
    for name, header in headers.items():
        yield f"header, {name}", _archive({"metadata.npy": header, "words.npy": header})
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield f"method {method}", _archive({"metadata.npy": _header() + bytes(8)}, method)
    content = _archive({"metadata.npy": bytes(3_000_000)})
    directory = content.rindex(b"PK\x01\x02")
    for size in (1, 2**30, 2**32 - 2):
        claim = size.to_bytes(4, "little")
        yield f"claims {size} bytes", content[: directory + 24] + claim + content[directory + 28 :]
    yield "a name of 60,000 letters", _archive({"n" * 60_000: b""})
    yield "a name that leads out", _archive({"../../../etc/passwd.npy": _header() + bytes(8)})
    yield "many entries", _archive({f"{number}.npy": b"" for number in range(2_000)})
    yield "a NumPy array", _header() + bytes(8)


def _made_up_tickets(content):
    """Tickets whose description lies."""
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            arrays[name] = archive.read(name)
    start = arrays["metadata.npy"].index(b"\n") + 1
    metadata = json.loads(arrays["metadata.npy"][start:])
    lies = [10**400, -1, 1e300, float("inf"), float("nan"), True, None, "x" * 400_000, [], {}, "\n"]
    lies.append([10**400] * 2_000 + [0])
    keys = [*metadata, *(f"provenance.{field}" for field in metadata["provenance"])]
    for key in (*keys, "shapes.a", "shapes.new", "provenance.new", "new"):
        for number, lie in enumerate(lies):
            changed = json.loads(json.dumps(metadata))
            *parents, last = key.split(".")
            place = changed[parents[0]] if parents else changed
            place[last] = [lie] if key.startswith("shapes.") and number % 2 else lie
            text = json.dumps(changed).encode()
            described = _header("|u1", f"({len(text)},)") + text
            lie_file = _archive(arrays | {"metadata.npy": described})
            yield f"{key} is {str(lie)[:20]!r}", lie_file


def _made_up_tables(content):
    lines = content.split(b"\n")
    header = next(line for line in lines if line.startswith(b"experiment"))
    row = b"a,b,c,d,e,0,1,0.5,3,test/natural/accuracy,0.5"
    yield "a header alone", header + b"\n"
    yield "a record that lost its last rows", b"\n".join(lines[:-2]) + b"\n"
    yield "a field of 200,000 letters", header + b"\n" + row + b"x" * 200_000 + b"\n"
    yield "an open quote", header + b'\n"' + row * 4_000
    for number, value in enumerate(
        [b"", b"nan", b"NaN", b"-nan", b"0x10", b"1_0", b"9" * 5_000, b"\x00", b"a" * 10_000]
    ):
        for column in (5, 6, 7, 8, 10):
            fields = row.split(b",")
            fields[column] = value
            yield f"column {column} is value {number}", header + b"\n" + b",".join(fields) + b"\n"


def _made_up_vectors():
    sound = {"words": np.array("a\nb"), "vectors": np.eye(2), "neighbours": np.array([[1], [0]])}
    lies = {
        "one axis": {"vectors": np.ones(2)},
        "no axis": {"neighbours": np.array(1)},
        "text": {"vectors": np.array([["x", "y"]] * 2)},
        "NaN": {"vectors": np.full([2, 2], np.nan)},
        "an index too high": {"neighbours": np.array([[1], [2]])},
        "an index below zero": {"neighbours": np.array([[1], [-1]])},
        "no indices": {"neighbours": np.ones([2, 1])},
        "words of numbers": {"words": np.arange(3)},
        "a word twice": {"words": np.array("a\na")},
        "unlike": {"vectors": np.eye(3)},
        "no text at all": {"words": np.frombuffer(b"\xff" * 8, "<U1")},
    }
    for name, lie in lies.items():
        buffer = io.BytesIO()
        np.savez(buffer, **sound | lie)
        yield f"lie, {name}", buffer.getvalue()


def _made_up_images():
    for side in (0, 30_000, 2**31 - 1):
        header = b"IHDR" + side.to_bytes(4, "big") * 2 + b"\x10\x02\x00\x00\x00"
        check = zlib.crc32(header).to_bytes(4, "big")
        yield f"{side} pixels a side", b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0d" + header + check
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "EPS")
    yield "a program in PostScript", buffer.getvalue()


def _made_up_safetensors():
    for name, entry in {
        "bytes that are not there": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        "a large shape": {"dtype": "F32", "shape": [2**62], "data_offsets": [0, 0]},
        "a type that NumPy lacks": {"dtype": "F8_E4M3", "shape": [0], "data_offsets": [0, 0]},
        "no type": {"dtype": "X", "shape": [], "data_offsets": [0, 0]},
    }.items():
        text = json.dumps({"conv1.weight": entry}).encode()
        yield name, len(text).to_bytes(8, "little") + text
    yield "a header of all the memory", (2**62).to_bytes(8, "little") + b"{}"


def _kinds(scratch):
    yield from _ticket_kinds(scratch)
    yield from _table_kinds(scratch)
    yield from _text_kinds(scratch)
    yield from _image_kinds()
    yield from _checkpoint_kinds(scratch)


def _ticket_kinds(scratch):
    random, path = np.random.default_rng(SEED), scratch / "sound.npz"
    masks = {"a": random.random((9, 31)) < 0.5, "b/kernel": random.random((3, 3, 1, 2)) < 0.5}
    config = {"image_shape": [9], "num_classes": 31}
    provenance = Provenance("original", "lenet", config, "mnist", 7, 3, "0" * 64, "", {"a": "1"})
    Ticket(masks, provenance).save(path)

    def read_ticket(file):
        ticket = Ticket.load(file)
        return ticket.sha256, dataclasses.asdict(dataclasses.replace(ticket.provenance))

    yield Kind("ticket", ".npz", path.read_bytes(), read_ticket, True, 1_200)
    arrays = {"kernel": random.standard_normal((20, 10)).astype(np.float32), "b": masks["a"]}
    save_arrays(path, arrays)
    yield Kind(
        "arrays",
        ".npz",
        path.read_bytes(),
        lambda file: arrays_sha256(load_arrays(file)),
        True,
        700,
    )


def _table_kinds(scratch):
    rows = [
        Result("sparse", "mnist", "lenet", "original", "pgd", 3, 12, 0.931, step, "test/a/b", 0.5)
        for step in range(12)
    ]
    write_record(scratch / "sound.csv", rows)
    content = (scratch / "sound.csv").read_bytes()
    yield Kind("record", ".csv", content, _without_nan(read_record), True, 400)
    yield Kind("results", ".csv", to_csv(rows).encode(), read_results, False, 300)


def _without_nan(read):
    def read_whole(path):
        rows = read(path)
        assert rows and all(row.value == row.value for row in rows), "a NaN, or no row"
        return rows

    return read_whole


def _text_kinds(scratch):
    config = json.dumps({"driver": "sparse", "eps": 0.1, "nested": {"list": [1, None]}}).encode()
    yield Kind("configuration", ".json", config, load_json, False, 300)
    removal = Removal({"conv_1": (0, 3), "conv_2": (1,)}, ("block_2",))
    yield Kind(
        "removal",
        ".json",
        json.dumps(removal.to_json()).encode(),
        lambda file: Removal.from_json(load_json(file), file),
        False,
        200,
    )
    near = json.dumps({"good": ["fine", "bad"], "fine": ["good"]}).encode()
    yield Kind("neighbours", ".json", near, text_resources._read_neighbours, False, 200)
    buffer = io.BytesIO()
    words, indices = "\n".join("abcdefgh"), np.arange(16).reshape(8, 2) % 8
    vectors = np.random.default_rng(SEED).integers(-9, 9, (8, 5)).astype(np.int8)
    np.savez(buffer, words=words, vectors=vectors, neighbours=indices)

    def read_vectors(file):
        words, vectors, neighbours = text_resources._read_vectors(file)
        return words, vectors.tobytes(), neighbours.tolist()

    yield Kind("word vectors", ".npz", buffer.getvalue(), read_vectors, False, 300)


def _image_kinds():
    pixels = np.random.default_rng(SEED).integers(0, 256, (12, 9, 3), np.uint8)
    sixteen = np.linspace(0, 65535, 12 * 9).reshape(12, 9).astype(np.uint16)

    def read(file):
        content = file.read_bytes() if file.is_file() else b""
        return decode_squares([(str(file), content)], 1, 4, "images").tobytes()

    for form, image in (
        ("PNG", pixels),
        ("PNG", sixteen),
        ("JPEG", pixels),
        ("GIF", pixels),
        ("BMP", pixels),
        ("WEBP", pixels),
        ("TIFF", sixteen),
    ):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, form)
        name = f"{form} of {image.dtype.itemsize * 8} bits"
        yield Kind(name, f".{form.lower()}", buffer.getvalue(), read, False, 100)


def _checkpoint_kinds(scratch):
    model = build_model("resnet_50_v1_5", (37, 45, 3), 3, 5, width_multiplier=1 / 16)

    def read(file):
        pretrained = load_pretrained(str(file), model)
        return all(np.isfinite(array).all() for array in pretrained.body.values())

    arrays = narrow_state_dict()
    yield Kind("safetensors", ".safetensors", safetensors.numpy.save(arrays), read, True, 40)
    try:
        import torch
    except ImportError:
        return
    path = scratch / "sound.pt"
    torch.save({"state_dict": {k: torch.from_numpy(v) for k, v in arrays.items()}}, path)
    yield Kind("checkpoint", ".pt", path.read_bytes(), read, True, 40)
    os.remove(path)
