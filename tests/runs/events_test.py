"""What TensorBoard would read of a level."""

import math

import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import metadata as hparams_metadata

from tf_tickets.runs.events import LevelEvents, write_figures

PARAMETERS = {"regime": "pgd", "seed": 3, "level": 2, "eps": 0.3}
HISTORY = [
    (0, "train/loss", 2.3),
    (0, "validation/accuracy", 0.125),
    (100, "train/loss", 0.1),
    (100, "validation/accuracy", 0.875),
]
MASKS = {
    "hidden/kernel": np.random.default_rng(0).random((7, 5)) < 0.4,
    "convolution/kernel": np.random.default_rng(1).random((3, 3, 2, 4)) < 0.8,
}


def read_values(directory):
    """All summaries of a folder, in the order of writing: (tag, step, value proto)."""
    return [
        (value.tag, event.step, value)
        for path in sorted(directory.glob("events.out.tfevents.*"))
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    ]


def read_scalars(directory):
    return [
        (step, tag, float(tf.make_ndarray(value.tensor)))
        for tag, step, value in read_values(directory)
        if value.metadata.plugin_data.plugin_name == "scalars"
    ]


def read_images(directory):
    """Tag → (step, decoded pictures)."""
    return {
        tag: (step, [tf.io.decode_png(png).numpy() for png in tf.make_ndarray(value.tensor)[2:]])
        for tag, step, value in read_values(directory)
        if value.metadata.plugin_data.plugin_name == "images"
    }


def as_written(history):
    return [(step, tag, float(np.float32(value))) for step, tag, value in history]


def test_each_entry_of_a_growing_history_is_written_once(tmp_path):
    events = LevelEvents(tmp_path / "level_02", PARAMETERS)
    for length in (0, 1, 3, 3, 4):
        events.add_history(HISTORY[:length])
        # Whoever watches the run sees it at once.
        assert read_scalars(tmp_path / "level_02") == as_written(HISTORY[:length])


def test_masks_are_shown_as_images_and_sparsities(tmp_path):
    events = LevelEvents(tmp_path, PARAMETERS)
    events.add_history(HISTORY)
    events.finish(MASKS, 200)
    images = read_images(tmp_path)
    assert set(images) == {"mask/hidden/kernel", "mask/convolution/kernel"}
    for path, (height, width) in {"hidden/kernel": (7, 5), "convolution/kernel": (18, 4)}.items():
        step, (picture,) = images[f"mask/{path}"]
        assert step == 200
        assert picture.shape == (height, width, 1)
        expected = [
            [255 if remains else 0 for remains in row] for row in MASKS[path].reshape(height, width)
        ]
        assert picture[..., 0].tolist() == expected
    sparsities = {tag: value for step, tag, value in read_scalars(tmp_path) if step == 200}
    assert set(sparsities) == {"sparsity/hidden/kernel", "sparsity/convolution/kernel"}
    for path, mask in MASKS.items():
        removed = sum(1 for remains in mask.ravel().tolist() if not remains)
        assert math.isclose(sparsities[f"sparsity/{path}"], removed / mask.size, rel_tol=1e-6)


def test_hyper_parameters_are_on_their_page(tmp_path):
    LevelEvents(tmp_path, PARAMETERS).finish(MASKS, 0)
    (content,) = [
        value.metadata.plugin_data.content
        for tag, _, value in read_values(tmp_path)
        if tag == hparams_metadata.SESSION_START_INFO_TAG
    ]
    stated = hparams_metadata.parse_session_start_info_plugin_data(content).hparams
    assert {name: value.WhichOneof("kind") for name, value in stated.items()} == {
        "regime": "string_value",
        "seed": "number_value",
        "level": "number_value",
        "eps": "number_value",
    }
    assert {
        name: getattr(value, value.WhichOneof("kind")) for name, value in stated.items()
    } == PARAMETERS


def test_a_new_attempt_replaces_the_interrupted_one(tmp_path):
    interrupted = LevelEvents(tmp_path, PARAMETERS)
    interrupted.add_history([*HISTORY[:2], (50, "train/loss", 9.0)])
    # Its writer stays open, as at a crash.
    again = LevelEvents(tmp_path, PARAMETERS)
    again.add_history(HISTORY)
    again.finish(MASKS, 200)

    everything = read_values(tmp_path)
    places = [(tag, step) for tag, step, _ in everything]
    assert len(set(places)) == len(places) == 1 + len(HISTORY) + 2 * len(MASKS)
    assert read_scalars(tmp_path)[: len(HISTORY)] == as_written(HISTORY)

    accumulator = event_accumulator.EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    accumulator.Reload()
    losses = accumulator.Tensors("train/loss")
    assert [event.step for event in losses] == [0, 100]
    del interrupted


def test_levels_do_not_touch_each_other(tmp_path):
    LevelEvents(tmp_path / "level_00", PARAMETERS).finish(MASKS, 7)
    before = len(read_values(tmp_path / "level_00"))
    LevelEvents(tmp_path / "level_01", PARAMETERS).add_history(HISTORY)
    assert len(read_values(tmp_path / "level_00")) == before == 1 + 2 * len(MASKS)


def test_disabled_events_write_nothing(tmp_path):
    directory = tmp_path / "level"
    directory.mkdir()
    (directory / "kept").write_text("")
    events = LevelEvents(directory, PARAMETERS, enabled=False)
    events.add_history(HISTORY)
    events.finish(MASKS, 200)
    assert [path.name for path in tmp_path.rglob("*")] == ["level", "kept"]


def test_figures_keep_every_pixel(tmp_path):
    generator = np.random.default_rng(2)
    pictures = {
        "accuracy": generator.integers(0, 256, (11, 17, 3), dtype=np.uint8),
        "overlap": generator.integers(0, 256, (5, 3, 3), dtype=np.uint8),
    }
    figures = {}
    for name, picture in pictures.items():
        figures[name] = tmp_path / f"{name}.png"
        tf.io.write_file(str(figures[name]), tf.io.encode_png(picture))
    directory = tmp_path / "events"
    for _ in range(2):  # The second time replaces the first.
        write_figures(directory, figures)
        assert [(tag, step) for tag, step, _ in read_values(directory)] == [
            ("accuracy", 0),
            ("overlap", 0),
        ]
    for name, (_, (picture,)) in read_images(directory).items():
        np.testing.assert_array_equal(picture, pictures[name])


def test_a_transparent_figure_is_shown_in_colour(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[..., 1] = 200
    pixels[..., 3] = 255
    tf.io.write_file(str(tmp_path / "figure.png"), tf.io.encode_png(pixels))
    write_figures(tmp_path / "events", {"figure": tmp_path / "figure.png"})
    _, (picture,) = read_images(tmp_path / "events")["figure"]
    assert picture.tolist() == [[[0, 200, 0]] * 2] * 2
