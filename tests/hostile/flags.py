"""Values of the flags of all programs, up to the work that they would begin."""

import contextlib
import importlib
import io
import math
import pkgutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import experiments
from experiments import kinds, program
from tests.experiments.programs import module_name
from tf_tickets.errors import UserError

# What a program needs at least.
_NEEDED = {
    "analyze": {"analysis": "loss_surface", "ticket": "a.npz"},
    "evaluate": {"model": "a.keras"},
    "export_ticket": {"run_dir": "a", "level": "1"},
    "inspect_ticket": {"ticket": "a.npz"},
    "report": {"run": f"{Path(experiments.__file__).parent / 'boosting_tickets' / 'measured'}"},
    "prune_structures": {"model": "a.keras", "output": "a_folder", "criterion": "l1"},
}
_VALUES = (
    *("", " ", ",", "-", "--", "=", "None", "true", "abc", "{}", "[]", "%s", "\\", "*", "~"),
    *("nan", "inf", "-inf", "-1", "-0.5", "0", "1e308", "-1e308", "1e400", "1e-320", f"{10**20}"),
    *("9" * 400, "1_000", "0x10", "1/0", "8/255", "1/1e-308", "1e5/1e-300", "8/255/2", "٣", "½"),
    *("1,1", "0.1,0.10", "1,nan", "0.5,", ",0.5", "abc,abc", "a=b,a=c", "a=", "=b"),
    *("x" * 300, "x" * 5000, "x/" * 3000, "x," * 3000, "1," * 3000),
    *("a\0b", "a\nb", "\x1b[31m", "\udcff", "naïve ±∞", "/nowhere/x", "/dev/full/x", "; exit"),
    *("wide_resnet_9994_9999", "wide_resnet_11_1", "mnist_classes_9_1", "mnist_classes_0_999999"),
)
_ANY_SIGN = {"input_range"}  # Flags of numbers that may be below 0.
_LARGEST = 1e8  # No number that a flag takes is larger but a seed.
_LONGEST_MESSAGE = 300
_SECONDS = 60


def programs() -> dict[str, object]:
    """Name → module of every program."""
    names = [module.name for module in pkgutil.iter_modules(experiments.__path__)]
    modules = {name: importlib.import_module(module_name(name)) for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "FLAGS")}


def attempts(scratch: Path) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """Every bad value of every flag of every program; see tests/hostile."""
    del scratch
    for name, module in programs().items():
        yield f"{name} as it needs to be", lambda m=module, n=name: _try_sound(m, n)
        for flag in module.FLAGS:
            for value in _VALUES:
                shown = f"{name} --{flag}={value[:40]!r}"
                yield shown, lambda m=module, n=name, f=flag, v=value: _try(m, n, f, v)
            shown = f"{name} --{flag} without a value"
            yield shown, lambda m=module, n=name, f=flag: _try_bare(m, n, f)


def read(module, arguments: list[str]) -> tuple[str | None, object]:
    """What a program makes of its command line: what it says, or None, and its configuration."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()), _alarm():
        try:
            program.parse(["program", *arguments], module.FLAGS)
            with program.naming_given(module.FLAGS):
                return None, module.read_config()
        except UserError as error:
            return f"error: {error}\n", None
        except SystemExit as end:
            return said.getvalue() if end.code else None, None


@contextlib.contextmanager
def _alarm():
    def ring(*_):
        raise TimeoutError(f"more than {_SECONDS} seconds")

    previous = signal.signal(signal.SIGALRM, ring)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def needed(name: str, but: str = "") -> list[str]:
    """The flags that a program needs at least, but for one."""
    pairs = _NEEDED.get(name, {}).items()
    return [f"--{flag}={value}" for flag, value in pairs if flag != but]


def _try_sound(module, name):
    said, _ = read(module, needed(name))
    return said and f"refused: {said}"


def _try(module, name, flag, value):
    try:
        said, _ = read(module, [*needed(name, but=flag), f"--{flag}={value}"])
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:100]}"
    if said is None:
        return _senseless(module.FLAGS[flag].parser, value, flag in _ANY_SIGN)
    return _badly_said(said, flag)


def _try_bare(module, name, flag):
    said, _ = read(module, [*needed(name, but=flag), f"--{flag}"])
    if module.FLAGS[flag].boolean:
        return said and f"refused: {said}"
    return _badly_said(said, flag) if said else "accepted"


def _badly_said(said, flag):
    lines = said.splitlines()
    if len(lines) != 1 or len(said.strip()) > _LONGEST_MESSAGE:
        return f"{len(lines)} lines, {len(said)} characters: {said[:100]!r}"
    if f"--{flag}" not in said:
        return f"does not name --{flag}: {said.strip()}"
    return None


def _number(text):
    numerator, _, denominator = text.strip().partition("/")
    return float(numerator) / float(denominator or 1)


def _senseless(kind, text, any_sign=False):
    """Why a value that was accepted makes no sense, or None."""
    if isinstance(kind, kinds.Optional):
        return _senseless(kind.kind, text) if text else None
    if isinstance(kind, kinds.Several):
        return _senseless_list(kind, text, any_sign)
    if isinstance(kind, kinds.Number):
        value = _number(text)
        tame = text.isascii() and "_" not in text and math.isfinite(value)
        largest = 2**31 if kind.whole else _LARGEST
        least = -largest if any_sign else 0
        return None if tame and least <= value <= largest else "accepted"
    if isinstance(kind, kinds.Choice):
        return None if text in kind.choices else "accepted"
    if isinstance(kind, kinds.Switch):
        return None if text.lower() in ("true", "false", "0", "1") else "accepted"
    longest = max(len(part.encode("utf-8", "surrogateescape")) for part in text.split("/"))
    tame = text and "\0" not in text and longest <= 255 * getattr(kind, "most", 1)
    tame = tame and (isinstance(kind, (kinds.Path, kinds.Pair)) or text.isprintable())
    return None if tame else "accepted"


def _senseless_list(kind, text, any_sign):
    texts = [part.strip() for part in text.split(",")] if text else []
    if len(texts) < kind.least:
        return "accepted though empty"
    numbers = isinstance(kind.kind, kinds.Number)
    if len(set(map(_number, texts) if numbers else texts)) < len(texts):
        return "accepted though one is there twice"
    each = (_senseless(kind.kind, part, any_sign) for part in texts)
    return next((said for said in each if said), None)
