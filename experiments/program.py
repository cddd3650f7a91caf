"""How a program reads its command line and how it ends."""

import contextlib
import errno
import math
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from absl import flags, logging

from tf_tickets.errors import StopRequested, UserError, require
from tf_tickets.runs.files import TEMPORARY_PREFIX


def parse(arguments: list[str], values: flags.FlagValues) -> list[str]:
    """Parses the command line into `values`; exits with one line about a flag that is wrong."""
    try:
        rest = values(arguments)
    except flags.Error as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    if len(rest) > 1:
        print(f"error: {rest[1]}: expected flags only, as in --name=value", file=sys.stderr)
        sys.exit(2)
    return rest


def parse_or_help(arguments: list[str], values: flags.FlagValues, explanation: str) -> None:
    """The same for a program with flags of its own; explains them, and exits, after --help."""
    values.unparse_flags()
    parse(arguments, values)
    if values.help:
        print(f"{explanation}\n{values.get_help()}")
        sys.exit(0)


def number(flag: str, text: str) -> float:
    """Reads a flag's decimal (0.03) or fraction (8/255).

    Raises:
      UserError: it is none, or outside [0, 1].
    """
    try:
        numerator, _, denominator = text.partition("/")
        value = float(numerator) / float(denominator or 1)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    require(0 <= value <= 1, flag, text, "a decimal or a fraction in [0, 1], such as 0.03 or 8/255")
    return value


def require_writable(flag: str, path: Path) -> None:
    """Says before the work, not after it, that its result has no place; makes its folder.

    Raises:
      UserError: nothing can be written beside `path`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Named as what will be written aside, which finds names that are too long.
        with tempfile.TemporaryDirectory(prefix=f"{TEMPORARY_PREFIX}{path.name}.", dir=path.parent):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        expected = f"a place that can be written ({reason})"
        raise UserError(f"--{flag}={path}: expected {expected}") from None


def exit_code(main: Callable[[], None], resumable: bool = True) -> int:
    """Runs `main` and says on standard error what ended it, where that is the user's to mend.

    Args:
      main: the program.
      resumable: whether the same command goes on where it was stopped.
    """
    logging.set_verbosity(logging.WARNING)
    try:
        with contextlib.nullcontext() if resumable else _stopped_by_sigterm():
            main()
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (StopRequested, KeyboardInterrupt) as stop:
        number = getattr(stop, "signal_number", signal.SIGINT)
        if not resumable:
            kept = getattr(stop, "kept", "nothing was written")
            print(f"stopped by {signal.Signals(number).name}; {kept}", file=sys.stderr)
            return 128 + number
        command = f"python -m experiments.{Path(sys.argv[0]).stem} {shlex.join(sys.argv[1:])}"
        print(
            f"stopped by {signal.Signals(number).name}; everything so far is kept. "
            f"The same command goes on: {command.rstrip()}",
            file=sys.stderr,
        )
        return 128 + number
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(
            f"error: {error.filename}: no space left on the disk; everything recorded is kept. "
            "Free some space and run the same command again",
            file=sys.stderr,
        )
        return 3


@contextlib.contextmanager
def _stopped_by_sigterm():
    """SIGTERM stops the body wherever it is, as Ctrl-C does, and nothing half-written is left."""

    def stop(number, _frame):
        interrupt = KeyboardInterrupt()  # No `except Exception` on the way takes it for an error.
        interrupt.signal_number = number
        raise interrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # Only there can signals be handled.
        return
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
