"""Pickles of PyTorch's, looked through before they are read.

PyTorch's own reader calls nothing that a file names but what it knows. Still a few bytes can keep
it busy for ever, or take all memory: a tuple that holds another one twice, and so on forty times,
is hashed in 2^40 steps where it is a key of a dict.
"""

import pickletools
from typing import BinaryIO

# What is fetched from the memo may be so many times as much as the pickle itself holds.
_MOST_SHARED = 10
_MOST_BITS = 80  # Of a whole number, as of the one that old checkpoints begin with.

# Instructions, by how many values they take from the stack, to join them or to put them into the
# value below; or else all values above a mark.
_JOIN = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "REDUCE": 2, "NEWOBJ": 2, "BINPERSID": 1}
_GROW = {"APPEND": 1, "SETITEM": 2, "BUILD": 1}
_JOIN_MARKED, _GROW_MARKED = ("TUPLE",), ("APPENDS", "SETITEMS")
_PUT, _GET = ("BINPUT", "LONG_BINPUT"), ("BINGET", "LONG_BINGET")
_NO_VALUE = ("PROTO", "STOP")


def require_bounded_state(file: BinaryIO) -> None:
    """Refuses a pickle of which little would be made into much.

    Args:
      file: at the start of a pickle of PyTorch's; afterwards at its end.

    Raises:
      ValueError: what it fetches from its memo is many times what it holds, a value holds itself,
        or it makes bytes of any number, or a whole number of any length.
      Exception: it is damaged.
    """
    values = _Values()
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "GLOBAL" and argument.endswith("bytearray"):
            raise ValueError("makes an array of bytes of any length")
        if opcode.name == "LONG1" and argument.bit_length() > _MOST_BITS:
            raise ValueError("a whole number of any length")
        values.follow(opcode.name, argument)


class _Value:
    """Of a value only its size: that of all its parts, shared ones as often as they are in it."""

    def __init__(self, size):
        self.size = size
        self.is_shared = False


class _Values:
    """The stack and the memo of a reader of pickles."""

    def __init__(self):
        self._stack, self._marked, self._memo = [], [], {}
        self._held = self._fetched = 0

    def follow(self, name, argument):
        """Does what an instruction does."""
        size = 1 + (len(argument) if isinstance(argument, str | bytes) else 0)
        self._held += size
        size += self._taken(name)
        if name == "MARK":
            self._marked.append(self._stack)
            self._stack = []
        elif name in _PUT:
            self._memo[argument] = self._stack[-1]
        elif name in _GET:
            self._fetch(self._memo[argument])
        elif name in _GROW or name in _GROW_MARKED:
            self._grow(size)
        elif name not in _NO_VALUE:
            self._stack.append(_Value(size))

    def _fetch(self, value):
        value.is_shared = True
        self._stack.append(value)
        self._fetched += value.size
        if self._fetched > _MOST_SHARED * self._held:
            raise ValueError("many times as many values as it holds")

    def _grow(self, size):
        if self._stack[-1].is_shared:  # Where it was fetched, it was counted as it was.
            raise ValueError("a value that holds itself")
        self._stack[-1].size += size

    def _taken(self, name):
        """The size of all values that an instruction takes from the stack."""
        if name in _JOIN_MARKED or name in _GROW_MARKED:
            taken, self._stack = self._stack, self._marked.pop()
        else:
            start = len(self._stack) - (_JOIN.get(name) or _GROW.get(name) or 0)
            if start < 0:
                raise ValueError(f"{name} of nothing")
            taken = self._stack[start:]
            del self._stack[start:]
        return sum(value.size for value in taken)
