"""From a finished network to a checked artifact in a folder of its own."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.deployment import ticket_card
from tf_tickets.deployment.agreement import Verification
from tf_tickets.deployment.artifacts import (
    FORMATS,
    Source,
    artifact_path,
    require_possible,
    write_artifact,
)
from tf_tickets.deployment.verification import measure_source, verify
from tf_tickets.errors import UserError
from tf_tickets.evaluation.robustness import Progress
from tf_tickets.runs.files import atomic_path, atomic_write_json

RECORD = "export.json"
# What else an export may hold beside the artifact.
_BESIDE = {RECORD, "ticket.json", *(f"verification.{kind}" for kind in ("md", "csv", "png"))}


@dataclasses.dataclass(frozen=True)
class NetworkExport:
    """What was written.

    Attributes:
      path: the artifact, see `artifact_path`.
      card: what goes with it, see `ticket_card.describe`.
      verification: what was found of it; None if nothing was looked for.
    """

    path: Path
    card: Mapping
    verification: Verification | None


def export_network(
    source: Source,
    form: str,
    optimizations: tuple[str, ...],
    output: Path,
    threat_model: ThreatModel,
    verified: bool = True,
    chunks: int = 1,
    progress: Progress = lambda amount, description: None,
) -> NetworkExport:
    """Writes a network in one format, loads what was written, and compares it with the network.

    Args:
      source: from `load_image_source` or `load_text_source`.
      form: of `FORMATS`.
      optimizations: of `OPTIMIZATIONS` that go together, see `require_possible`.
      output: the folder, replaced as a whole: the artifact, `ticket.json` beside all but
        SavedModels, and `export.json` with everything that was measured.
      threat_model: the attack on images; texts are tried as the run's attacks left them.
      verified: whether anything is measured and compared.
      chunks: slices of a batch that may be attacked side by side.
      progress: is told of the work done, `work_of` in all.

    Raises:
      UserError: the optimizations do not go together, or the artifact does not agree with its
        source; `output` then is as it was.
    """
    optimizations = require_possible(form, optimizations or ("none",))
    exported = source.compacted() if "compact" in optimizations else source
    reference, found = None, None
    with atomic_path(output) as folder:
        if verified:
            reference = measure_source(source, threat_model, chunks, progress)
        card = ticket_card.describe(exported, optimizations, reference)
        folder.mkdir()
        deployed = write_artifact(exported, form, optimizations, folder, card)
        if verified:
            found = verify(reference, exported, deployed, chunks, progress)
            _require_agreement(found, source, output)
        verification = dataclasses.asdict(found) if found else None
        record = {"format": form, "ticket": card, "verification": verification}
        atomic_write_json(folder / RECORD, record)
    return NetworkExport(artifact_path(output, form), card, found)


def is_replaceable(folder: Path) -> bool:
    """Whether a folder is not there, is empty or holds an earlier export and nothing else."""
    if folder.is_symlink() or not folder.is_dir():
        return not folder.is_symlink() and not folder.exists()
    names = {path.name for path in folder.iterdir()}
    known = {artifact_path(folder, form).name for form in FORMATS} | _BESIDE
    return not names or (RECORD in names and names <= known)


def _require_agreement(found, source, output):
    if problems := found.problems():
        raise UserError(
            f"{output}: the artifact does not agree with {source.network.path}: "
            f"{'; '.join(problems)}; it was removed"
        )
