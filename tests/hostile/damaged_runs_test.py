"""A damaged folder of a run is refused in a short line, or resumed to the same results."""

import itertools

from tests.hostile import damaged_runs


def test_no_damage_is_handled_badly(tmp_path):
    tried = list(damaged_runs.attempts(tmp_path))
    assert len(tried) > 59
    # All that were thought up, and some of the rest; `python -m tests.hostile` tries all.
    thought_up = [each for each in tried if each[0] in damaged_runs._DAMAGES]
    others = [each for each in tried if each[0] not in damaged_runs._DAMAGES]
    some = [*itertools.islice(others, 0, None, 7), *thought_up]
    bad = [f"{name}: {said}" for name, attempt in some if (said := attempt())]
    assert not bad, "\n".join(bad)
