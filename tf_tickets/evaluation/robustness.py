"""Accuracy of saved networks under attack, counted image by image."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy import stats

from tf_tickets.attacks import auto_attack, carlini_wagner
from tf_tickets.attacks.gradient import build_attack, uniform_noise
from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.data.vision import ImageSplit
from tf_tickets.errors import require
from tf_tickets.evaluation.answers import judged
from tf_tickets.evaluation.victims import Victim

# Carlini and Wagner's search needs memory in the square of this.
_L2_BATCH = 20
# Forward and backward passes that AutoAttack makes for one image, at most.
_AUTO_ATTACK_PASSES = 2 * 5 * 100 + 100 * 10 + 5 * 5000 // 2

# (passes through the network, what they are for) → None
Progress = Callable[[float, str], None]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a network did under one attack.

    Attributes:
      attack: its name.
      settings: what it was allowed, name → number.
      correct: images classified correctly, under attack.
      images: all of them.
      measured: further measurements, name → number.
    """

    attack: str
    settings: Mapping[str, float]
    correct: int
    images: int
    measured: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """In [0, 1]."""
        return self.correct / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% confidence interval of the accuracy (see `wilson_interval`)."""
        return wilson_interval(self.correct, self.images)

    def to_json(self) -> dict:
        """All of it as JSON values."""
        derived = {"accuracy": self.accuracy, "interval_95": list(self.interval)}
        return dataclasses.asdict(self) | derived


def wilson_interval(correct: int, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion ("Probable inference", JASA 22, 1927).

    Args:
      correct: 0 to `images`.
      images: at least 1.
      confidence: in (0, 1).

    Returns:
      The lowest and the highest share in [0, 1].
    """
    test = stats.binomtest(correct, images)
    interval = test.proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


class Attempt(NamedTuple):
    """An attack to try on a network.

    Attributes:
      passes: forward and backward passes for one image, at most.
      run: evaluator → outcome.
    """

    passes: int
    run: Callable[["RobustnessEvaluator"], Outcome]


def gradient_attempt(
    name: str, threat_model: ThreatModel, restarts: int = 1, source: Victim | None = None
) -> Attempt:
    """See `RobustnessEvaluator.under`."""
    return Attempt(
        threat_model.steps * restarts,
        lambda judge: judge.under(name, threat_model, restarts, source),
    )


def carlini_wagner_l2_attempt(settings: carlini_wagner.L2Settings) -> Attempt:
    """See `RobustnessEvaluator.under_carlini_wagner_l2`."""
    return Attempt(_l2_passes(settings), lambda judge: judge.under_carlini_wagner_l2(settings))


def auto_attack_attempt(eps: float) -> Attempt:
    """See `RobustnessEvaluator.under_auto_attack`."""
    return Attempt(_AUTO_ATTACK_PASSES, lambda judge: judge.under_auto_attack(eps))


class RobustnessEvaluator:
    """Attacks one network on one set of images.

    An image counts as correct under an attack if its class is the network's answer to
    the image itself and to every adversarial example made of it.

    Args:
      victim: the network.
      images: what it is attacked on, in the victim's image shape.
      batch_size: images at a time.
      seed: decides all that is random, together with an image's position.
      chunks: slices of a batch that may be attacked side by side.
      progress: is told of the passes (see `Attempt`) over all images as they are made.

    Raises:
      UserError: no images, or a batch without any.
    """

    def __init__(
        self,
        victim: Victim,
        images: ImageSplit,
        batch_size: int,
        seed: int = 0,
        chunks: int = 1,
        progress: Progress = lambda passes, description: None,
    ):
        require(len(images) > 0, "examples", len(images), "at least 1")
        require(batch_size > 0, "batch_size", batch_size, "at least 1")
        self.victim = victim
        self._split = images
        self._batch_size = batch_size
        self._seed = seed
        self._chunks = chunks
        self._progress = progress

    def limited(self, images: int) -> "RobustnessEvaluator":
        """The same on the first images only."""
        return RobustnessEvaluator(
            self.victim,
            self._split.subset(slice(0, images)),
            self._batch_size,
            self._seed,
            self._chunks,
            self._progress,
        )

    def natural(self) -> Outcome:
        """Without an attack.

        The outcome's measurement `not_finite`, where there are any, counts the images whose
        logits are no numbers. Such an answer is wrong, here and under every attack.
        """
        answers = [self._classify(x, y) for x, y, _ in self._batches("natural", 1)]
        correct, finite = (np.concatenate(part) for part in zip(*answers, strict=True))
        lost = int(np.sum(~finite))
        return self._outcome("natural", {}, correct, {"not_finite": lost} if lost else {})

    def under(
        self,
        name: str,
        threat_model: ThreatModel,
        restarts: int = 1,
        source: Victim | None = None,
    ) -> Outcome:
        """Under a gradient attack, the worst of its restarts for each image.

        Args:
          name: the attack's.
          threat_model: what it may do.
          restarts: how often it starts anew, each time from another random point.
          source: the network that the examples are made for; by default the victim.

        Raises:
          UserError: less than one restart, or more than one without a random start.
        """
        require(restarts >= 1, "restarts", restarts, "at least 1")
        require(
            restarts == 1 or threat_model.random_start,
            "restarts",
            restarts,
            f"1 for {name}, which starts at the image every time",
        )
        survivors = self._build_survivors(threat_model, restarts, source or self.victim)
        passes = threat_model.steps * restarts
        correct = np.concatenate(
            [survivors(x, y, start).numpy() for x, y, start in self._batches(name, passes)]
        )
        settings = {
            "eps": threat_model.eps,
            "step_size": threat_model.step_size,
            "steps": threat_model.steps,
            "restarts": restarts,
            "random_start": threat_model.random_start,
            "loss": threat_model.loss,
        }
        if source is not None:
            settings["source"] = source.path
        return self._outcome(name, settings, correct)

    def under_carlini_wagner_l2(self, settings: carlini_wagner.L2Settings) -> Outcome:
        """Under an attack that may change images at will, and tries to change them little.

        The outcome's measurements are `success_rate`, of the images that are classified
        correctly without an attack, and the mean and the median L2 distance at which it
        succeeded; those that have no value are left out.
        """
        correct, distances = [], []
        for images, labels, _ in self._batches("cw_l2", _l2_passes(settings), _L2_BATCH):
            found = carlini_wagner.carlini_wagner_l2(
                self._fixed_logits_fn(), images.numpy(), settings
            )
            natural, resisted = self._correct(images, labels), self._correct(found, labels)
            moved = np.sqrt(np.sum((found - images) ** 2, axis=(1, 2, 3)))
            distances.extend(moved[natural & ~resisted].tolist())
            correct.append(natural & resisted)
        correct = np.concatenate(correct)
        measured = {}
        if distances:
            measured["mean_l2_distance"] = float(np.mean(distances))
            measured["median_l2_distance"] = float(np.median(distances))
        if len(distances) + np.sum(correct):
            measured["success_rate"] = len(distances) / (len(distances) + int(np.sum(correct)))
        return self._outcome("cw_l2", dataclasses.asdict(settings), correct, measured)

    def under_auto_attack(self, eps: float) -> Outcome:
        """Under AutoAttack (see `attacks.auto_attack`).

        Raises:
          UserError: its package is not installed, or an `eps` of 0.
        """
        auto_attack.require_toolbox()
        require(eps > 0, "eps", eps, "more than 0 for auto_attack")
        logits_fn = self._fixed_logits_fn()
        correct = []
        for images, labels, start in self._batches("auto_attack", _AUTO_ATTACK_PASSES):
            found = auto_attack.auto_attack(
                logits_fn,
                images.numpy(),
                labels.numpy(),
                self.victim.num_classes,
                eps,
                self._seed + int(start),
            )
            correct.append(self._correct(images, labels) & self._correct(found, labels))
        return self._outcome("auto_attack", {"eps": eps}, np.concatenate(correct))

    def _outcome(self, name, settings, correct, measured=None):
        return Outcome(name, settings, int(np.sum(correct)), len(correct), measured or {})

    def _batches(self, description, passes, at_most=None):
        """Yields images, labels and the position of the first, and reports the work done."""
        size = min(self._batch_size, at_most or self._batch_size)
        for start in range(0, len(self._split), size):
            batch = self._split.subset(slice(start, start + size))
            images = batch.seen(batch.images)
            yield images, tf.constant(batch.labels), tf.constant(start)
            self._progress(passes * len(batch), description)

    def _correct(self, images, labels):
        return self._classify(tf.convert_to_tensor(images), labels)[0].numpy()

    @functools.cached_property
    def _classify(self):
        return tf.function(
            functools.partial(_judged, self.victim), input_signature=self._signature()
        )

    def _noise(self, images, positions, restart):
        """Random starts that depend on nothing but the seed, the image and the restart."""

        def of_image(image_and_position):
            image, position = image_and_position
            seed = tf.random.experimental.stateless_fold_in([self._seed, restart], position)
            return uniform_noise(image, seed)

        return tf.map_fn(of_image, (images, positions), fn_output_signature=images.dtype)

    def _signature(self):
        """Any number of images and labels, so that a smaller last batch needs no new graph."""
        images = tf.TensorSpec([None, *self.victim.image_shape], tf.float32)
        return [images, tf.TensorSpec([None], tf.int64)]

    def _fixed_logits_fn(self):
        logits_fn = self.victim.logits_fn
        return getattr(logits_fn, "with_fixed_weights", lambda: logits_fn)()

    def _build_survivors(self, threat_model, restarts, source):
        """All restarts of a batch in one graph; an image is attacked until it is lost."""
        attack = build_attack(threat_model, source.logits_fn, self._chunks)

        def survivors(images, labels, start):
            def restart(index, survived):
                where = tf.where(survived)[:, 0]
                some, targets = tf.gather(images, where), tf.gather(labels, where)
                positions = start + tf.cast(where, tf.int32)
                noise = self._noise(some, positions, index)
                kept = _is_correct(self.victim, attack(some, targets, noise), targets)
                return index + 1, tf.tensor_scatter_nd_update(survived, where[:, tf.newaxis], kept)

            _, survived = tf.while_loop(
                lambda index, survived: (index < restarts) & tf.reduce_any(survived),
                restart,
                (0, _is_correct(self.victim, images, labels)),
                parallel_iterations=1,
            )
            return survived

        signature = [*self._signature(), tf.TensorSpec([], tf.int32)]
        return tf.function(survivors, input_signature=signature, autograph=False)


def _l2_passes(settings):
    return settings.iterations * settings.binary_search_steps


def _is_correct(victim, images, labels):
    return _judged(victim, images, labels)[0]


def _judged(victim, images, labels):
    return judged(victim.logits_fn(images), labels)
