"""The errors a user can cause or mend; drivers print them as one line."""

import importlib.util


class UserError(Exception):
    """Wrong input or a condition outside the program.

    The message is one line that names the flag or file, the value found, and
    what would be right. Drivers print it without a stack trace and exit with 2.
    """


class UntrustedError(UserError):
    """A file is refused because it may do more than compute.

    Programs with the flag `--trust`, which loads it all the same, say so in the same line.
    """


class Diverged(UserError):
    """A training whose losses or measurements are no longer finite."""


class StopRequested(Exception):
    """Ctrl-C or SIGTERM arrived; everything up to here is on disk."""

    def __init__(self, signal_number):
        super().__init__(f"stopped by signal {signal_number}")
        self.signal_number = signal_number


def one_line(error: object, most: int = 120) -> str:
    """What another library's error, or a value, says: one line of at most `most` characters.

    For messages that are mostly ours: an error may repeat a whole damaged file. Without the
    graph node that TensorFlow puts around its own; the error's type where it says nothing.
    """
    text = str(getattr(error, "message", None) or error)
    text = text.split("}} ")[-1].split(" [Op:")[0]
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    if not line:
        line = type(error).__name__
    return line if len(line) <= most else f"{line[: most - 1]}…"


def require(holds: bool, flag: str, value, expected: str) -> None:
    """Raises a `UserError` about the flag `--flag` unless `holds`."""
    if not holds:
        shown = one_line(value) if f"{value}" else ""
        raise UserError(f"--{flag}={shown}: expected {expected}")


def require_choices(flag: str, values, choices) -> None:
    """Raises a `UserError` unless `values` are different members of `choices`, at least one."""
    allowed = f"one or more of {', '.join(choices)}"
    require(len(values) > 0, flag, "", allowed)
    for value in values:
        require(value in choices, flag, value, allowed)
    require(len(set(values)) == len(values), flag, ",".join(values), "no name twice")


def require_extra(extra: str, *modules: str) -> None:
    """Raises a `UserError` that says what to install unless all `modules` of an extra are there."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed; "
            f"this needs the extra `{extra}`: pip install -e '.[{extra}]'"
        )
