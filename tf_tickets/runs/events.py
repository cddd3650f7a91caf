"""TensorBoard events of a level, always made anew from what is known of it."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams


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
        if enabled:
            shutil.rmtree(directory, ignore_errors=True)
            self._writer = tf.summary.create_file_writer(str(directory))
        else:
            self._writer = tf.summary.create_noop_writer()
        self._written = 0
        with self._writer.as_default():
            hparams.hparams(dict(parameters), trial_id=str(directory))

    def add_history(self, history: list[tuple[int, str, float]]) -> None:
        """Writes the entries of a growing history that were not written yet."""
        with self._writer.as_default():
            for iteration, metric, value in history[self._written :]:
                tf.summary.scalar(metric, value, step=iteration)
        self._written = len(history)
        self._writer.flush()

    def finish(self, masks: Mapping[str, np.ndarray], iteration: int) -> None:
        """Writes the masks as images (white remains) and each layer's sparsity."""
        with self._writer.as_default():
            for path, mask in masks.items():
                tf.summary.scalar(f"sparsity/{path}", 1.0 - mask.mean(), step=iteration)
                tf.summary.image(f"mask/{path}", _as_image(mask), step=iteration)
        self._writer.close()


def write_figures(directory: Path, figures: Mapping[str, Path]) -> None:
    """Shows PNG files in TensorBoard, under their names."""
    shutil.rmtree(directory, ignore_errors=True)
    with tf.summary.create_file_writer(str(directory)).as_default():
        for name, path in figures.items():
            picture = tf.io.decode_png(tf.io.read_file(str(path)), channels=3)
            tf.summary.image(name, picture[tf.newaxis], step=0)


def _as_image(mask):
    return mask.reshape(1, -1, mask.shape[-1], 1).astype(np.float32)
