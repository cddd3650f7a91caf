"""Whether an artifact is the network it was made of, and what it takes beside the dense one."""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.deployment.agreement import Robustness, Verification, WeightCount
from tf_tickets.deployment.artifacts import Deployed, Source, write_artifact
from tf_tickets.deployment.footprint import compare_latency, size_of
from tf_tickets.deployment.image_source import ImageSource
from tf_tickets.evaluation.robustness import Progress, RobustnessEvaluator
from tf_tickets.evaluation.victims import Victim, load_victim

LATENCY_BATCHES = (1, 64)
_BATCH = 100


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """What an artifact is compared with: the source's answers to the test examples.

    Attributes:
      source: the network before it is compacted.
      inputs: the examples as the network takes them.
      labels: their classes.
      logits: what the network answers, float32 `[examples, classes]`.
      attacks: how it does under attack.
      threat_model: of the attack on images.
    """

    source: Source
    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray
    logits: np.ndarray
    attacks: Sequence[Robustness]
    threat_model: ThreatModel

    @property
    def accuracy(self) -> float:
        """The source's, in [0, 1]."""
        return _accuracy(self.logits, self.labels)


def work_of(source: Source, threat_model: ThreatModel) -> int:
    """What `measure_source` and `verify` together tell `progress` at most."""
    examples = len(source.test)
    if isinstance(source, ImageSource):
        return 2 * examples * (1 + threat_model.steps)
    return 2 * (examples + 2 * sum(map(len, source.attacked_texts().values())))


def measure_source(
    source: Source, threat_model: ThreatModel, chunks: int, progress: Progress
) -> Reference:
    """Measures a network before it is exported.

    Args:
      source: as it was trained.
      threat_model: the attack on images; of texts, what the run's attacks made is used instead.
      chunks: slices of a batch that may be attacked side by side.
      progress: is told of passes over all examples.
    """
    inference = source.inference()
    inputs = source.inputs_of(source.test)

    def infer(batch):
        tensors = {name: tf.constant(value) for name, value in batch.items()}
        return inference.function(**tensors)["logits"].numpy()

    logits = _in_batches(infer, inputs, progress)
    reference = Reference(source, inputs, source.test.labels, logits, (), threat_model)
    if isinstance(source, ImageSource):
        judge = RobustnessEvaluator(source.victim, source.test, _BATCH, 0, chunks, progress)
        outcome = judge.under("pgd", threat_model)
        attacks = [
            Robustness("pgd", "white-box", outcome.settings, outcome.images, outcome.accuracy)
        ]
    else:
        attacks = _on_attacked_texts(source, infer, progress)
    return dataclasses.replace(reference, attacks=tuple(attacks))


def verify(
    reference: Reference, exported: Source, deployed: Deployed, chunks: int, progress: Progress
) -> Verification:
    """Compares an artifact with its source and with the dense network in the same format.

    Args:
      reference: the source's answers.
      exported: the source that was written, compacted where that was asked for.
      deployed: what was written.
      chunks, progress: see `measure_source`.
    """
    artifact = deployed.artifact
    logits = _in_batches(artifact.logits, reference.inputs, progress)
    attacks = _under_attack(reference, deployed, chunks, progress)
    with tempfile.TemporaryDirectory() as aside:
        dense = write_artifact(reference.source.dense(), deployed.form, (), Path(aside))
        dense_size = size_of(dense.path)
        timed = [
            _compare_latency(artifact, dense.artifact, reference.inputs, batch)
            for batch in LATENCY_BATCHES
        ]
    return Verification(
        optimizations=deployed.optimizations,
        examples=len(logits),
        max_logits_difference=float(np.max(np.abs(logits - reference.logits))),
        largest_logit=float(np.max(np.abs(reference.logits))),
        same_class=float(np.mean(logits.argmax(axis=1) == reference.logits.argmax(axis=1))),
        source_accuracy=reference.accuracy,
        accuracy=_accuracy(logits, reference.labels),
        attacks=tuple(attacks),
        source_weights=WeightCount.of_model(reference.source.model),
        exported_weights=WeightCount.of_model(exported.model),
        weights=WeightCount.of(artifact.weights()),
        dense_size=dense_size,
        size=size_of(deployed.path),
        dense_latencies=tuple(each["dense"] for each in timed),
        latencies=tuple(each["artifact"] for each in timed),
        removed=dict(exported.removed),
    )


def _under_attack(reference, deployed, chunks, progress) -> list[Robustness]:
    """The reference's attacks, with what the artifact withstands of them."""
    source = reference.source
    if not isinstance(source, ImageSource):
        found = _on_attacked_texts(source, deployed.artifact.logits, progress)
        return [
            dataclasses.replace(before, artifact=after.source)
            for before, after in zip(reference.attacks, found, strict=True)
        ]
    has_gradients = deployed.form == "saved_model"
    victim = load_victim(deployed.path, None) if has_gradients else _as_victim(deployed, source)
    judge = RobustnessEvaluator(victim, source.test, _BATCH, 0, chunks, progress)
    maker = None if has_gradients else source.victim
    outcome = judge.under("pgd", reference.threat_model, source=maker)
    way = "white-box" if has_gradients else "transferred"
    (before,) = reference.attacks
    return [dataclasses.replace(before, way=way, artifact=outcome.accuracy)]


def _as_victim(deployed, source) -> Victim:
    """An artifact that has no gradients as something that examples can be tried on."""
    classes = source.victim.num_classes

    def logits_fn(images):
        logits = tf.numpy_function(
            lambda batch: deployed.artifact.logits({"images": batch}), [images], tf.float32
        )
        return tf.ensure_shape(logits, [None, classes])

    path, image_shape = deployed.path, source.victim.image_shape
    return Victim(path.name, str(path), {}, logits_fn, image_shape, classes)


def _on_attacked_texts(source, infer, progress) -> list[Robustness]:
    """How a network does on the examples that the run attacked, as they were and as they became.

    An example counts as right if both are, so that the source's share is the run's own (Aua).
    """
    found = []
    for attack, rows in source.attacked_texts().items():
        labels, right = np.array([row.label for row in rows]), True
        for texts in ([row.texts for row in rows], [row.attacked_texts for row in rows]):
            logits = _in_batches(infer, source.inputs_of_texts(texts), progress)
            right &= np.argmax(logits, axis=1) == labels
        found.append(Robustness(attack, "transferred", {}, len(rows), float(np.mean(right))))
    return found


def _compare_latency(artifact, dense, inputs, batch):
    """Both artifacts' latencies on the same examples, repeated where there are too few."""
    some = {name: np.resize(value, (batch, *value.shape[1:])) for name, value in inputs.items()}
    answers = {"artifact": lambda: artifact.logits(some), "dense": lambda: dense.logits(some)}
    return compare_latency(answers, batch, calls=200, seconds=5.0)


def _in_batches(
    infer: Callable, inputs: Mapping[str, np.ndarray], progress: Progress
) -> np.ndarray:
    count, answers = len(next(iter(inputs.values()))), []
    for start in range(0, count, _BATCH):
        batch = {name: value[start : start + _BATCH] for name, value in inputs.items()}
        answers.append(infer(batch))
        progress(len(answers[-1]), "comparing answers")
    return np.concatenate(answers)


def _accuracy(logits, labels):
    return float(np.mean(np.argmax(logits, axis=1) == labels))
