"""No model that a stranger made runs anything or ends in a traceback."""

import pytest

from tests.hostile import hostile_models, hostile_weights
from tf_tickets.errors import UserError
from tf_tickets.models.keras_files import read_keras_model


def test_no_hostile_model_is_handled_badly(tmp_path):
    tried = [(name, attempt()) for name, attempt in hostile_models.attempts(tmp_path)]
    assert len(tried) > 55
    bad = [f"{name}: {said}" for name, said in tried if said]
    assert not bad, "\n".join(bad)


def test_no_hostile_weights_are_handled_badly(tmp_path):
    tried = [(name, attempt()) for name, attempt in hostile_weights.attempts(tmp_path)]
    assert len(tried) > 250
    bad = [f"{name}: {said}" for name, said in tried if said]
    assert not bad, "\n".join(bad)


def test_trust_runs_what_is_in_a_file(tmp_path):
    """Otherwise the attempts would prove nothing: they must do harm where nobody looks."""
    made = dict(hostile_models.configurations(tmp_path))
    path = made["a Lambda of os.system"]
    with pytest.raises(UserError):  # What it returns is no tensor, but it has run.
        read_keras_model(path, trust=True)
    assert (tmp_path / "canary").exists()


def test_the_sound_model_loads(tmp_path):
    path = hostile_models.write_keras(
        tmp_path / "sound.keras", hostile_models.entries_of(hostile_models.sound_model())
    )
    assert read_keras_model(path).count_params() == 47
