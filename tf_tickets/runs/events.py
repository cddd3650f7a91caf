"""TensorBoard events of a level, always made anew from what is known of it."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from tf_tickets.runs.files import naming_full_disk


class LevelEvents:
    """Writes the events of one level; TensorBoard shows it as one run.

    Events of an interrupted attempt are replaced, so that none is there twice.

    Args:
      directory: the level's folder.
      parameters: hyper-parameters, for the HParams page.
      enabled: False writes nothing.
    """

    def __init__(
        self, directory: Path, parameters: Mapping[str, str | float | int], enabled: bool = True
    ):
        self._directory = directory
        if enabled:
            shutil.rmtree(directory, ignore_errors=True)
            with naming_full_disk(directory):
                self._writer = tf.summary.create_file_writer(str(directory))
        else:
            self._writer = tf.summary.create_noop_writer()
        self._written = 0
        with self._writing():
            hparams.hparams(dict(parameters), trial_id=str(directory))

    def add_history(self, history: list[tuple[int, str, float]]) -> None:
        """Writes the entries of a growing history that were not written yet."""
        with self._writing():
            for iteration, metric, value in history[self._written :]:
                tf.summary.scalar(metric, value, step=iteration)
            self._writer.flush()
        self._written = len(history)

    def finish(self, masks: Mapping[str, np.ndarray], iteration: int) -> None:
        """Writes each layer's sparsity and, where weights are gone, its mask (white remains)."""
        with self._writing():
            for path, mask in masks.items():
                tf.summary.scalar(f"sparsity/{path}", 1.0 - mask.mean(), step=iteration)
                if not mask.all():
                    tf.summary.image(f"mask/{path}", _as_image(mask), step=iteration)
            self._writer.flush()
        self._writer.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with naming_full_disk(self._directory), self._writer.as_default():
            yield


def write_figures(directory: Path, figures: Mapping[str, Path]) -> None:
    """Shows PNG files in TensorBoard, under their names."""
    shutil.rmtree(directory, ignore_errors=True)
    with naming_full_disk(directory), tf.summary.create_file_writer(str(directory)).as_default():
        for name, path in figures.items():
            picture = tf.io.decode_png(tf.io.read_file(str(path)), channels=3)
            tf.summary.image(name, picture[tf.newaxis], step=0)


def _as_image(mask):
    return mask.reshape(1, -1, mask.shape[-1], 1).astype(np.float32)
