"""Which of a study's tickets are exported."""

from pathlib import Path

import numpy as np

from tf_tickets.data.registry import load_images
from tf_tickets.deployment.saved_model import Export, export_saved_model
from tf_tickets.evaluation.matching import sparsest_matching_level
from tf_tickets.masking.ticket import Ticket
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import write_weights
from tf_tickets.runs.files import load_arrays
from tf_tickets.runs.run_directory import Cell, RunDirectory
from tf_tickets.search.study import StudySettings

_CHECK_IMAGES = 64


def export_best_tickets(settings: StudySettings, run: RunDirectory) -> dict[Cell, Export]:
    """Exports one retrained ticket for every data set and regime.

    It is of the first seed and the first pruning strategy: the sparsest level whose
    final validation accuracy, under the attack trained against, is at least the
    dense network's.

    Returns:
      The exported search → its export, in `exports/` of the run directory.
    """
    first = [
        cell
        for cell in settings.cells()
        if cell.method == settings.methods[0] and cell.seed == settings.seeds[0]
    ]
    return {cell: _export(cell, settings, run) for cell in first}


def _export(cell, settings, run):
    levels = range(settings.search.rounds)
    metric = f"validation/{cell.regime}/accuracy"
    level = sparsest_matching_level(
        {level: _final_value(run, cell, level, metric) for level in levels}
    )
    data = load_images(cell.data_set, settings.data_source, settings.data_dir, cell.seed)
    model = build_model(settings.training.model, data.image_shape, data.num_classes, cell.seed)
    write_weights(model, load_arrays(run.trained_weights_path(cell, level)))
    images = data.validation.images[:_CHECK_IMAGES].astype(np.float32) / np.float32(255)
    return export_saved_model(
        model,
        Ticket.load(run.ticket_path(cell, level)),
        run.path / "exports" / Path(cell.data_set, cell.regime, f"level_{level:02d}"),
        images,
    )


def _final_value(run, cell, level, metric):
    rows = [row for row in run.finished_results(cell, level) if row.metric == metric]
    return max(rows, key=lambda row: row.iteration).value
