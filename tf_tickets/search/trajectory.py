"""The way that a network's weights take through a training."""

import functools
from collections.abc import Callable
from pathlib import Path

from tf_tickets.runs.files import load_arrays, save_arrays
from tf_tickets.runs.run_directory import Cell, RunDirectory
from tf_tickets.training.trainer import Trainer


class Trajectory:
    """Keeps all weights of a network at the beginning of its training and after every epoch.

    Args:
      run: the run directory.
      cell: what the training belongs to.
      level: rounds of pruning behind it.
    """

    def __init__(self, run: RunDirectory, cell: Cell, level: int):
        self._run = run
        self._folder = run.checkpoint_directory(cell, level) / "trajectory"
        self._path = run.trajectory_path(cell, level)

    def milestones(
        self, trainer: Trainer, steps_per_epoch: int, epochs: int
    ) -> dict[int, Callable[[], None]]:
        """What `train_level` has to do at which iteration."""
        return {
            epoch * steps_per_epoch: functools.partial(self._keep, trainer, epoch)
            for epoch in range(epochs + 1)
        }

    def write(self, last_epoch: int) -> Path:
        """Writes one file, `<epoch>/<weight path>` → array, of all epochs up to the last one.

        The weights that a selection keeps may be those of an earlier epoch.

        Returns:
          The file, which lies beside the trained weights.
        """
        weights = {
            f"{epoch:03d}/{path}": array
            for epoch in range(last_epoch + 1)
            for path, array in load_arrays(self._epoch_path(epoch)).items()
        }
        save_arrays(self._path, weights)
        return self._path

    def _keep(self, trainer, epoch):
        weights = trainer.weights()  # All workers average BatchNorm's statistics together.
        if self._run.writable:
            save_arrays(self._epoch_path(epoch), weights)

    def _epoch_path(self, epoch):
        return self._folder / f"{epoch:03d}.npz"
