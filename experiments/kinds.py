"""Kinds of flags: which values each may have is said where the flag is defined, and only there."""

import dataclasses
import math
import os
import re
from collections.abc import Callable, Sequence

from absl import flags

# Of a name, as the file systems in use limit it, and of a whole path.
_LONGEST_NAME, _LONGEST_PATH = 255, 4095
# Python reads more than this: digits of all scripts, with lines between.
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
# Raises a UserError about the flag, its second argument, unless its first one is a right value.
Check = Callable[[str, str], None]

# Flags belong to the program that has them defined here.
flags.disclaim_key_flags()


@dataclasses.dataclass(frozen=True)
class Interval:
    """Numbers between two ends; `text` is as mathematics writes it: "[0, 1)" has 0 but not 1."""

    text: str

    @property
    def ends(self) -> tuple[float, float]:
        """The lower and the upper end."""
        low, high = self.text[1:-1].split(",")
        return float(low), float(high)

    def __contains__(self, value: float) -> bool:
        low, high = self.ends
        above = low < value or (low == value and self.text[0] == "[")
        return above and (value < high or (value == high and self.text[-1] == "]"))


def parse_number(text: str) -> float:
    """Reads a decimal (0.03) or a fraction (8/255).

    Raises:
      ValueError: it is neither.
    """
    numerator, slash, denominator = text.partition("/")
    if not all(map(_DECIMAL.fullmatch, (numerator, denominator or "1"))):
        raise ValueError
    try:
        return float(numerator) / float(denominator) if slash else float(numerator)
    except (ZeroDivisionError, OverflowError):
        raise ValueError from None


def parse_whole(text: str) -> int:
    """Reads a whole number of at most 18 digits.

    Raises:
      ValueError: it is none.
    """
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError
    return int(text)


class Number(flags.ArgumentParser):
    """One number.

    Args:
      interval: in which it must lie.
      whole: whether it must be a whole number.
    """

    def __init__(self, interval: Interval, whole: bool = False):
        self.interval, self.whole = interval, whole
        example = "" if whole else ", such as 0.03 or 8/255"
        self.syntactic_help = f"a {'whole ' * whole}number in {interval.text}"
        self._expected = f"expected {self.syntactic_help}{example}"

    def parse(self, argument) -> float:
        try:
            value = (parse_whole if self.whole else parse_number)(f"{argument}".strip())
        except ValueError:
            raise ValueError(self._expected) from None
        if not math.isfinite(value) or value not in self.interval:
            raise ValueError(self._expected)
        return value

    def flag_type(self):
        return "int" if self.whole else "float"


class Switch(flags.ArgumentParser):
    """Yes or no."""

    syntactic_help = "true or false"
    _MEANINGS = {"true": True, "1": True, "false": False, "0": False}

    def parse(self, argument) -> bool:
        meaning = self._MEANINGS.get(f"{argument}".lower())
        if meaning is None:
            raise ValueError("expected true or false")
        return meaning

    def flag_type(self):
        return "bool"


class Choice(flags.ArgumentParser):
    """One of the names in `choices`."""

    def __init__(self, choices: Sequence[str]):
        self.choices = choices
        self.syntactic_help = f"one of {', '.join(choices)}"

    def parse(self, argument) -> str:
        if argument not in self.choices:
            raise ValueError(f"expected {self.syntactic_help}")
        return argument

    def flag_type(self):
        return "string enum"


class Name(flags.ArgumentParser):
    """A word that `check` accepts."""

    syntactic_help = "a name"

    def __init__(self, flag: str, check: Check):
        self.flag, self.check = flag, check

    def parse(self, argument) -> str:
        if not argument or len(argument) > _LONGEST_NAME or not argument.isprintable():
            raise ValueError(f"expected a name of 1 to {_LONGEST_NAME} characters")
        self.check(argument, self.flag)
        return argument


class Path(flags.ArgumentParser):
    """A path that a file system can have; nothing is looked up.

    Args:
      most: how many paths, with commas between, it may be.
    """

    syntactic_help = "a path"

    def __init__(self, most: int = 1):
        self.most = most

    def parse(self, argument) -> str:
        try:
            parts = [os.fsencode(part) for part in argument.split("/")]
        except UnicodeEncodeError:
            raise ValueError("expected a path in the system's encoding") from None
        longest, whole = max(map(len, parts)), sum(map(len, parts)) + len(parts) - 1
        if not argument or "\0" in argument:
            raise ValueError("expected a path")
        if longest > _LONGEST_NAME * self.most or whole > _LONGEST_PATH * self.most:
            raise ValueError(f"expected a path whose names have at most {_LONGEST_NAME} bytes")
        return argument


class Pair(flags.ArgumentParser):
    """A name and a path."""

    syntactic_help = "name=path"

    def parse(self, argument) -> str:
        name, _, path = argument.partition("=")
        if not (name and path and name.isprintable()):
            raise ValueError(f"expected {self.syntactic_help}")
        Path().parse(path)
        return argument


class Optional(flags.ArgumentParser):
    """Nothing, or what another kind takes."""

    def __init__(self, kind: flags.ArgumentParser):
        self.kind, self.syntactic_help = kind, f"{kind.syntactic_help}, or empty"

    def parse(self, argument):
        return self.kind.parse(argument) if argument else ""


class Several(flags.ArgumentParser):
    """Different values with commas between them, kept as they were written.

    Args:
      kind: what each of them must be.
      least: how many there must be.
      most: how many there may be.
    """

    def __init__(self, kind: flags.ArgumentParser, least: int = 1, most: int = 1000):
        self.kind, self.least, self.most = kind, least, most
        self.syntactic_help = f"with commas between, each {kind.syntactic_help}"

    def parse(self, argument) -> list[str]:
        if isinstance(argument, (list, tuple)):  # A default.
            return list(argument)
        texts = [text.strip() for text in argument.split(",")] if argument else []
        if not self.least <= len(texts) <= self.most:
            count = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"
            raise ValueError(f"expected {count}, {self.syntactic_help}")
        parsed = []
        for text in texts:
            try:
                value = self.kind.parse(text)
            except ValueError as error:
                raise ValueError(f"{error}, with commas between") from None
            if value in parsed:
                raise ValueError("expected different ones, none of them twice")
            parsed.append(value)
        return texts

    def flag_type(self):
        return "comma separated list"


class Definitions:
    """The flags of a program, which are its own: programs in one process do not share any.

    Every method defines a flag; its arguments are the flag's name, the value that it has when it
    is not given (None: the preset's, or as its text says), its text in --help, and what it may be.

    Attributes:
      values: the flags, to be parsed.
    """

    def __init__(self):
        self.values = flags.FlagValues()
        self.switch("help", False, "Shows this text.")

    def define(self, kind: flags.ArgumentParser, name: str, default, text: str) -> None:
        """A flag of any kind."""
        flags.DEFINE(kind, name, default, text, self.values)

    def switch(self, name: str, default: bool | None, text: str) -> None:
        """--name or --noname."""
        flag = flags.Flag(Switch(), None, name, default, text, boolean=True)
        flags.DEFINE_flag(flag, self.values)

    def number(self, name: str, default, text: str, interval: str) -> None:
        """A decimal or a fraction."""
        self.define(Number(Interval(interval)), name, default, text)

    def integer(self, name: str, default: int | None, text: str, interval: str) -> None:
        """A whole number."""
        self.define(Number(Interval(interval), whole=True), name, default, text)

    def choice(self, name: str, default: str | None, text: str, choices: Sequence[str]) -> None:
        """One name of several."""
        self.define(Choice(tuple(choices)), name, default, text)

    def name(self, name: str, default: str | None, text: str, check: Check) -> None:
        """A word that `check` accepts."""
        self.define(Name(name, check), name, default, text)

    def path(self, name: str, default: str | None, text: str) -> None:
        """The path of a file or of a folder."""
        self.define(Path(), name, default, text)

    def numbers(self, name, default, text, interval, whole=False, least=1, most=1000) -> None:
        """Different numbers."""
        self.define(Several(Number(Interval(interval), whole), least, most), name, default, text)

    def choices(self, name, default, text, choices, least=1) -> None:
        """Different names of several."""
        self.define(Several(Choice(tuple(choices)), least), name, default, text)

    def names(self, name, default, text, check: Check, least=1) -> None:
        """Different words that `check` accepts."""
        self.define(Several(Name(name, check), least), name, default, text)


def any_name(_text: str, _flag: str) -> None:
    """The check of names of which more is known only later."""
