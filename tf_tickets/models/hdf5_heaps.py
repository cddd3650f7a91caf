"""Where HDF5 files keep their texts, looked through before HDF5's library walks through it.

The library goes from one text to the next by the size that each states, for ever where one is 0.
"""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Of a heap, with its version and three zeros; a text's number, users and size come before it.
_HEAP, _HEADER, _ALIGNMENT = b"GCOL\x01\0\0\0", 16, 8


def require_ending_heaps(content: bytes) -> None:
    """Refuses a heap of texts without an end.

    Args:
      content: an HDF5 file.

    Raises:
      ValueError: a text states a size that leads nowhere, or sizes have not 8 bytes, as those of
        all files of Keras have.
    """
    places = (13, 14) if content[8:9] in (b"\0", b"\x01") else (9, 10)
    if not content.startswith(_SIGNATURE) or any(content[place] != 8 for place in places):
        raise ValueError("an HDF5 file of another kind than Keras writes")
    start = content.find(_HEAP)
    while start >= 0:
        end = start + _number(content, start + 8, 8)
        place = start + _HEADER
        while place + _HEADER <= end:
            size = _number(content, place + 8, 8)
            if _number(content, place, 2):  # What is not free has a header before it.
                size = _HEADER + -(-size // _ALIGNMENT) * _ALIGNMENT
            if not _HEADER <= size <= min(end, len(content)) - place:
                raise ValueError("texts that never end")
            place += size
        start = content.find(_HEAP, start + 1)


def _number(content, place, size):
    return int.from_bytes(content[place : place + size], "little")
