"""What a run reads is checked against how it is used; without data."""

import dataclasses

import pytest

from experiments.double_win_tickets import driver, inputs
from experiments.double_win_tickets.inputs import DataSets, pairs, require_transferable
from experiments.double_win_tickets.plan import Images, Public
from tf_tickets.errors import UserError
from tf_tickets.work.nodes import Data, Network, Platform

PLATFORM = Platform(1, 1, ())
SOURCE = Images(Data("birds", "folder", "0" * 64, 0), (64, 64, 3), 7)


def test_targets_of_other_colours_are_refused():
    gray = SOURCE._replace(
        data=dataclasses.replace(SOURCE.data, name="mnist"), image_shape=(64, 64, 1)
    )
    with pytest.raises(UserError, match="--targets=mnist: expected images of 3 channel") as it:
        require_transferable(SOURCE, gray)
    assert "as --source=birds has; they have 1" in str(it.value)
    require_transferable(SOURCE, SOURCE._replace(classes=2))


def test_a_name_has_one_value():
    assert pairs("folders", ["a=/b=c", "d=e"]) == {"a": "/b=c", "d": "e"}
    with pytest.raises(UserError, match="--folders=a=b,a=c: expected different names"):
        pairs("folders", ["a=b", "a=c"])


def test_an_image_folder_is_read_from_its_own_place():
    config = driver.PAPER | {"source": "birds", "folders": ["birds=/birds"], "source_examples": 9}
    data_sets = DataSets(config, "/tfds")
    data_sets.require_known()
    source, target = data_sets.source_of("birds"), data_sets.source_of("cifar10")
    assert (source.data_source, source.data_dir, source.train_examples) == ("folder", "/birds", 9)
    assert (target.data_source, target.data_dir, target.train_examples) == ("tfds", "/tfds", 0)


def settings(**changes):
    return driver.settings_of(driver.PAPER | {"width_multiplier": 0.5} | changes)


def test_public_weights_are_read_for_the_sources_classes(monkeypatch):
    monkeypatch.setattr(inputs, "read_public", lambda *known: (known, True))
    found = inputs.read_weights(settings(pretrained=["at=a.pt"]), SOURCE, PLATFORM)
    network = Network("resnet_50_v1_5", (64, 64, 3), 7, 0.5)
    known = ("a.pt", network, SOURCE.data, 0, PLATFORM, "convolutions")
    assert found == {"at": Public(known, True)}


def test_errors_about_public_weights_name_their_flag():
    with pytest.raises(UserError, match="^--pretrained=at=a.bin: expected imagenet or a file"):
        inputs.require_models({"at": "a.bin"})
    with pytest.raises(UserError, match="^--pretrained=std=/nowhere/a.pt"):
        inputs.read_weights(settings(pretrained=["std=/nowhere/a.pt"]), SOURCE, PLATFORM)
