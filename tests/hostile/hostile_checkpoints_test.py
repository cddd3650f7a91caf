"""No checkpoint of a few bytes takes for ever, or all memory."""

import pytest

from tests.hostile import hostile_checkpoints

pytest.importorskip("torch", reason="reads checkpoints with PyTorch, which is not installed")


def test_no_hostile_checkpoint_is_handled_badly(tmp_path):
    tried = [(name, attempt()) for name, attempt in hostile_checkpoints.attempts(tmp_path)]
    assert len(tried) > 30
    bad = [f"{name}: {said}" for name, said in tried if said]
    assert not bad, "\n".join(bad)
