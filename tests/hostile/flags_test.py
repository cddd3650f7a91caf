"""Every flag of every program, with its bad values and with its good ones."""

from pathlib import Path

import pytest

import experiments
from experiments import kinds, program
from tests.hostile import flags
from tf_tickets.errors import UserError

KINDS = (kinds.Number, kinds.Choice, kinds.Name, kinds.Path, kinds.Optional, kinds.Several)
PROGRAMS = flags.programs()


def test_no_value_of_a_flag_is_handled_badly(tmp_path):
    tried = [(name, attempt()) for name, attempt in flags.attempts(tmp_path)]
    assert len(tried) > 10_000
    bad = [f"{name}: {said}" for name, said in tried if said]
    assert not bad, "\n".join(bad[:20])


def test_all_programs_are_tried():
    folder = Path(experiments.__file__).parent
    tools = {
        path.stem for path in folder.glob("*.py") if '__name__ == "__main__"' in path.read_text()
    }
    found = tools | {path.parent.name for path in folder.glob("*/__main__.py")}
    assert set(PROGRAMS) == found and len(found) >= 10


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_flag_says_what_it_may_be(name):
    values = PROGRAMS[name].FLAGS
    for flag in values:
        assert isinstance(values[flag].parser, (*KINDS, kinds.Switch)), flag
        assert values[flag].help.endswith("."), flag


def text_of(value):
    return ",".join(value) if isinstance(value, list) else f"{value}"


@pytest.mark.parametrize("name", [name for name in PROGRAMS if hasattr(PROGRAMS[name], "PRESETS")])
def test_values_of_presets_may_be_given_and_change_nothing(name):
    module = PROGRAMS[name]
    for preset, values in module.PRESETS.items():
        # ImageNet is where its user says.
        own = [
            f"--preset={preset}",
            *["--folders=imagenet=a"][: values.get("source") == "imagenet"],
        ]
        said, config = flags.read(module, own)
        assert said is None
        given = [f"--{flag}={text_of(v)}" for flag, v in values.items() if v is not None]
        assert flags.read(module, [*given, *own]) == (None, config)


def test_fractions_are_what_they_are_of():
    evaluate = PROGRAMS["evaluate"]
    said, config = flags.read(evaluate, ["--model=a", "--eps=8/255", "--step_size=2/255"])
    assert said is None and (config["eps"], config["step_size"]) == (8 / 255, 2 / 255)
    boosting = PROGRAMS["boosting_tickets"]
    said, config = flags.read(boosting, ["--eps=3/10", "--sparsities=1/2,3/4"])
    assert said is None and config["eps"] == 0.3
    assert boosting.study_settings(config).sparsities == (0.5, 0.75)


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_shows_all_flags_and_what_presets_have_for_them(name, capsys):
    module = PROGRAMS[name]
    presets = getattr(module, "PRESETS", {})
    with pytest.raises(SystemExit) as end:
        program.parse([name, "--help"], module.FLAGS, module.__doc__, presets)
    shown = capsys.readouterr().out
    assert end.value.code == 0 and shown.startswith(module.__doc__)
    assert all(f"--{flag}:" in shown.replace("[no]", "") for flag in module.FLAGS)
    if name == "sparse_robust_networks":
        assert "(smoke: 40; quick: 1000; paper: 50000)" in " ".join(shown.split())
        assert "smoke: 40" not in module.FLAGS["iterations"].help  # But in --help alone.


class _Program:
    """A program of one flag, whose configuration is what `read` says."""

    def __init__(self, read, **number):
        define = kinds.Definitions()
        define.number("size", None, "A size.", number.get("interval", "[0, 1]"))
        self.FLAGS, self.read_config = define.values, read


def raising(error):
    def read():
        raise error

    return read


@pytest.mark.parametrize(
    "tried, value, said",
    [
        (_Program(lambda: {}), "0.5", None),
        (_Program(lambda: {}), "nan", None),
        (_Program(raising(UserError("--size=0.5: expected less"))), "0.5", None),
        (_Program(raising(UserError("--width=0.5: expected less"))), "0.5", "does not name --size"),
        (_Program(raising(UserError("--size: two\nlines"))), "0.5", "2 lines"),
        (_Program(raising(UserError(f"--size: {'x' * 300}"))), "0.5", "1 lines, 3"),
        (_Program(raising(ValueError("x"))), "0.5", "ValueError"),
        (_Program(lambda: {}, interval="[-1, 1]"), "-1", "accepted"),
        (_Program(lambda: {}, interval="[0, 1e300]"), "1e299", "accepted"),
    ],
)
def test_what_counts_as_bad(tried, value, said):
    found = flags._try(tried, "program", "size", value)
    assert found is None if said is None else found.startswith(said)
