"""PyTorch checkpoints of a few bytes that would take for ever or all memory to read."""

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tf_tickets.errors import UserError
from tf_tickets.models.pretrained import load_pretrained
from tf_tickets.models.registry import build_model

_LONGEST_MESSAGE = 300
_MANY = 60  # Each doubling is a line of a file; 2^60 steps take years.


def attempts(scratch: Path) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """See tests/hostile: every checkpoint, as a name and a function that tries it."""
    scratch.mkdir(parents=True, exist_ok=True)
    model = build_model("resnet_50_v1_5", (37, 45, 3), 3, 5, width_multiplier=1 / 16)
    for name, content in _files():
        path = scratch / f"{name.replace(' ', '_')}.pt"
        path.write_bytes(content)
        yield name, lambda path=path: _try(path, model)


def _try(path, model):
    """What is bad about how a checkpoint is met; nothing if it is refused in a line."""
    try:
        load_pretrained(str(path), model)
    except UserError as error:
        message = str(error)
        if len(message.replace(str(path), "")) > _LONGEST_MESSAGE or "\n" in message:
            return f"a message of {len(message)} characters"
        return None
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "loaded"


def _files():
    for name, instructions in _pickles().items():
        content = b"\x80\x02" + instructions + b"."
        yield name, archive({"archive/data.pkl": content, "archive/version": b"3\n"})
        yield f"{name}, of the older form", _OLDER_START + content + pickle.dumps([], 2)
    allocation = b"\x80\x02" + _pickles()["bytes of any number"] + b"."
    sound = {"archive/data.pkl": pickle.dumps({}, 2), "archive/version": b"3\n"}
    yield "another pickle in capitals", archive({"archive/DATA.PKL": allocation, **sound})
    inner = archive({"archive/data.pkl": allocation, "archive/version": b"3\n"})
    yield "an archive before an archive", inner + archive(sound)
    for size in (1, 2**30, 2**32 - 2):
        yield f"an entry that says it has {size} bytes", _lying(archive(sound), size)


_OLDER_START = b"".join(
    pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
)


def archive(entries: dict[str, bytes]) -> bytes:
    """A zip file as PyTorch writes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return buffer.getvalue()


def _lying(content, size):
    """An archive whose list says that its first entry unpacks to so many bytes."""
    place = content.index(b"PK\x01\x02") + 24
    return content[:place] + size.to_bytes(4, "little") + content[place + 4 :]


def _text(text):
    return b"X" + len(text).to_bytes(4, "little") + text


def _put(number):
    return b"q" + bytes([number])


def _get(number):
    return b"h" + bytes([number])


def _pickles():
    """Instructions of protocol 2, between its first and its last one."""
    doubled = _text(b"a") + _put(0)
    for number in range(_MANY):
        doubled += _get(number) * 2 + b"\x86" + _put(number + 1)
    ordered, some_set = b"ccollections\nOrderedDict\n", b"c__builtin__\nset\n"
    items = b"".join(_text(b"%d" % number) + b"K\x01\x86" for number in range(1_000))
    long_list = b"]" + _put(0) + b"(" + items + b"e"
    collide = b"".join(
        b"\x8a\xc8" + (number * (2**61 - 1) << 1_000).to_bytes(200, "little") + b"N"
        for number in range(2_000)
    )
    return {
        "a key of keys of keys": b"}" + doubled + b"Ns",
        "keys of keys for a mark": b"}(" + doubled + b"Nu",
        "keys of keys for an ordered dict": ordered + b"](]" + doubled + b"aNae\x85R",
        "keys of keys for a set": some_set + b"](" + doubled + b"e\x85R",
        "keys of keys within a namespace": b"cargparse\nNamespace\n)\x81}" + doubled + b"Nsb",
        "a list copied a thousand times": long_list
        + b"]("
        + (ordered + _get(0) + b"\x85R") * 1_000
        + b"e",
        "a list that is copied as it grows": b"]("
        + long_list
        + (b"(" + (ordered + _get(0) + b"\x85R") * 1_000 + b"t" + _get(0) + _text(b"b") + b"ae"),
        "a text copied a thousand times": _text(b"x" * 10_000)
        + _put(0)
        + b"]("
        + (b"c_codecs\nencode\n" + _get(0) + _text(b"utf_32") + b"\x86R") * 1_000
        + b"e",
        "bytes of any number": b"c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R",
        "numbers that look alike": b"}(" + collide + b"u",
        "a list in itself": b"]" + _put(0) + _get(0) + b"a",
        "nothing to join": b"\x87",
        "nothing to fetch": _get(7),
        "no mark": b"}u",
        "os.system": b"cposix\nsystem\n" + _text(b"true") + b"\x85R",
    }
