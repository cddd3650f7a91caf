"""How a program reads its command line and how it ends."""

import contextlib
import errno
import io
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from absl import flags, logging

from tf_tickets.errors import StopRequested, UntrustedError, UserError, one_line
from tf_tickets.runs.files import TEMPORARY_PREFIX

STOPS = (signal.SIGINT, signal.SIGTERM)
# A place that others may use, but not this user.
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
# Of an error's line, without "error: ".
_LONGEST = 290
# Flags that decide no result, and so do not contradict another's default.
_ASIDE = (
    *("help", "preset", "run_dir", "output", "store", "seed", "stage", "plan"),
    *("strategy", "logical_cpus", "workers", "ray_address", "checkpoint_minutes"),
)


def run(
    main: Callable[[], None],
    values: flags.FlagValues,
    explanation: str,
    presets: Mapping[str, Mapping] | None = None,
    resumable: bool = True,
) -> NoReturn:
    """Runs a program from its command line to its exit.

    Args:
      main: the program.
      values: its flags.
      explanation: what --help says first.
      presets: preset → flag → value, of a program that has them.
      resumable: whether the same command goes on where it was stopped.
    """
    if sys.stdout is not None:  # Not every terminal has all characters of our tables.
        sys.stdout.reconfigure(errors="backslashreplace")
    parse(sys.argv, values, explanation, presets)
    for number in STOPS:  # Until `main` begins, and once it is over, there is nothing to stop.
        signal.signal(number, signal.SIG_IGN)
    sys.exit(exit_code(main, values, resumable))


def parse(
    arguments: list[str],
    values: flags.FlagValues,
    explanation: str = "",
    presets: Mapping[str, Mapping] | None = None,
) -> None:
    """Parses the command line into `values`; see `run`.

    Raises:
      SystemExit: with 0 after --help, with 2 after one line about a flag that is wrong.
    """
    values.unparse_flags()
    try:
        rest = values(arguments)
        if len(rest) > 1:
            raise UserError(f"{rest[1]}: expected flags only, as in --name=value")
    except UserError as error:
        _fail(error)
    except flags.Error as error:
        _fail(_in_our_words(str(error)))
    if values.help:
        print_out(f"{explanation}\n{_help(values, presets or {})}")
        sys.exit(0)


def _fail(error) -> NoReturn:
    _say(f"error: {one_line(error, _LONGEST)}")
    sys.exit(2)


def _in_our_words(error):
    """What absl says of a flag: "flag --name=value: expected …"."""
    match = re.fullmatch(r"flag (--\w+)=(.*): (expected .*)", error, re.DOTALL)
    if not match:
        return error
    flag, value, expected = match.groups()
    return f"{flag}={one_line(value, 80) if value else ''}: {one_line(expected, 190)}"


def _help(values, presets):
    """The flags with what each preset has for them."""
    kept = {name: values[name].help for name in values}
    for name in values:
        of_presets = [(preset, flags[name]) for preset, flags in presets.items() if name in flags]
        if of_presets:
            values[name].help += f" ({_values_of_presets(of_presets)})"
    try:
        return values.get_help(include_special_flags=False)
    finally:
        for name, text in kept.items():
            values[name].help = text


def _values_of_presets(of_presets):
    texts = {preset: _text(value) for preset, value in of_presets}
    if len(set(texts.values())) == 1:
        return f"all presets: {next(iter(texts.values()))}"
    return "; ".join(f"{preset}: {text}" for preset, text in texts.items())


def _text(value):
    if isinstance(value, list):
        return ",".join(value) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "its own" if value is None else f"{value}" or "none"


def configuration(values: flags.FlagValues) -> dict:
    """Flag → value of a program without presets."""
    return {name: value for name, value in values.flag_values_dict().items() if name != "help"}


@contextlib.contextmanager
def naming_given(values: flags.FlagValues):
    """Makes errors about a flag's default name the flags that were given, which do not go with it.

    Args:
      values: the program's flags.

    Raises:
      UserError: about a flag that was given, as what the body raises is where no other was.
    """
    try:
        yield
    except UserError as error:
        match = re.match(r"--(\w+)=[^\s:]", str(error))
        name = match and match[1]
        if name not in values or name in _ASIDE or values[name].present:
            raise
        if "preset" not in values and values[name].value is None:
            raise  # It has no default; that it was not given is the error.
        given = [name for name in values if values[name].present and name not in _ASIDE]
        if not given:
            raise
        shown = one_line(" ".join(f"--{name}={_text(values[name].value)}" for name in given), 100)
        owner = f"--preset={values.preset}'s" if "preset" in values else "the default"
        raise UserError(f"{shown}: does not go with {owner} {error}") from None


def require_writable(flag: str, path: Path) -> None:
    """Says before the work, not after it, that its result has no place; makes its folder.

    Raises:
      UserError: nothing can be written beside `path`.
    """
    _require_room(flag, path, path.parent, path.name)


def require_writable_folder(flag: str, path: Path) -> None:
    """The same of a folder that results are written into; makes it."""
    _require_room(flag, path, path, "")


def _require_room(flag, path, folder, name):
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Named as what will be written aside, which finds names that are too long.
        with tempfile.TemporaryDirectory(prefix=f"{TEMPORARY_PREFIX}{name}.", dir=folder):
            pass
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"--{flag}={one_line(path)}: expected a place that can be written ({reason})"
        ) from None


def exit_code(main: Callable[[], None], values: flags.FlagValues, resumable: bool = True) -> int:
    """Runs `main` and says on standard error what ended it, where that is the user's to mend.

    What `main` prints comes when it is over, so that no closed or full output can end it.

    Args:
      main: the program.
      values: its flags.
      resumable: whether the same command goes on where it was stopped.
    """
    logging.set_verbosity(logging.WARNING)
    printed = io.StringIO()
    with _stoppable() as stops:
        try:
            with contextlib.redirect_stdout(printed), naming_given(values):
                main()
            code = 0
        except UserError as error:
            code = 2
            may_trust = isinstance(error, UntrustedError) and "trust" in values
            advice = "; give --trust if you know who made it" if may_trust else ""
            _say(f"error: {one_line(error, _LONGEST - len(advice))}{advice}")
        except (StopRequested, KeyboardInterrupt) as stop:
            number = getattr(stop, "signal_number", signal.SIGINT)
            code = _stopped(number, resumable, getattr(stop, "kept", "nothing was written"))
        except Exception as error:
            if stops:  # It broke because it was stopped: TensorFlow makes errors of interrupts.
                code = _stopped(stops[-1], resumable, "what was finished is kept")
            elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
                code = _disk_full(error, resumable)
            elif isinstance(error, OSError) and error.errno in _FORBIDDEN and error.filename:
                _say(f"error: {one_line(error.filename, 120)}: {error.strerror}")
                code = 2
            else:
                raise
    text = printed.getvalue()
    return (print_out(text, end="") if text else 0) or code


def _stopped(number, resumable, kept):
    name = signal.Signals(number).name
    if resumable:
        command = f"python -m experiments.{_name()} {shlex.join(sys.argv[1:])}"
        _say(
            f"stopped by {name}; everything so far is kept. "
            f"The same command goes on: {command.rstrip()}"
        )
    else:
        _say(f"stopped by {name}; {kept}")
    return 128 + number


def _name():
    """The running program's: a module, or a paper's folder with its __main__.py."""
    path = Path(sys.argv[0])
    return path.parent.name if path.stem == "__main__" else path.stem


def _disk_full(error, resumable):
    place = error.filename or tempfile.gettempdir()
    told = "; everything recorded is kept. Free some space and run the same command again"
    _say(
        f"error: {one_line(place, 120)}: no space left on the disk"
        f"{told if resumable else '; it was not written. Free some space first'}"
    )
    return 3


def print_out(text: str, end: str = "\n") -> int:
    """Prints to standard output, which may be closed or full; returns an exit code."""
    if sys.stdout is None:
        return 0
    try:
        print(text, end=end, flush=True)
        return 0
    except OSError as error:
        problem = "closed" if isinstance(error, BrokenPipeError) else one_line(error.strerror)
        _say(f"error: standard output: {problem}; all that is written to files is kept")
        # Python would try again at its end.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        os.dup2(sys.stdout.fileno(), 1)
        return 128 + signal.SIGPIPE if isinstance(error, BrokenPipeError) else 3


def _say(line):
    """Tells the user on standard error, if that is there."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _stoppable():
    """SIGINT and SIGTERM stop the body wherever it is, and nothing half-written is left.

    Yields a list, to which each signal's number is added as it arrives.
    """
    stops = []

    def stop(number, _frame):
        stops.append(number)
        interrupt = KeyboardInterrupt()  # No `except Exception` on the way takes it for an error.
        interrupt.signal_number = number
        raise interrupt

    def again(unraisable):
        """Objects that are being deleted swallow interrupts."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt) and stops:
            threading.Timer(0.05, os.kill, (os.getpid(), stops[-1])).start()
        else:
            sys.__unraisablehook__(unraisable)

    if threading.current_thread() is not threading.main_thread():
        yield stops  # Only there can signals be handled.
        return
    previous = {number: signal.signal(number, stop) for number in STOPS}
    hook, sys.unraisablehook = sys.unraisablehook, again
    try:
        yield stops
    finally:
        sys.unraisablehook = hook
        for number, handler in previous.items():
            signal.signal(number, handler)
