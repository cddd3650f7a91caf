"""What finished networks are tested on, and how they do."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import tf_keras as keras

from tf_tickets.attacks.gradient import build_attack
from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.data.vision import ImageSplit
from tf_tickets.errors import require
from tf_tickets.evaluation.accuracy import Evaluator
from tf_tickets.evaluation.shifted_images import require_severities, semantic_mean, shifted_splits
from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.runs.progress import ProgressBar

# Images measured at a time.
EVALUATION_BATCH = 250
# All trials are tested on the same images.
_CORRUPTION_SEED = 0


@dataclasses.dataclass(frozen=True)
class AttackSettings:
    """The attacks of "On the Effect of Pruning", section 4.

    Attributes:
      white_box: name → attack on the network itself.
      severities: of the corruptions, 1 to 5.
      occlusion_side: of the square of zeros, in pixels.
    """

    white_box: Mapping[str, ThreatModel]
    severities: Sequence[int]
    occlusion_side: int

    def __post_init__(self):
        require_severities(self.severities)
        require(self.occlusion_side >= 1, "occlusion_side", self.occlusion_side, "at least 1")


class NetworkTests:
    """Test images, as they are and changed, on which networks are measured.

    Args:
      settings: the attacks.
      images: the test images.
      chunks: slices of a batch that may be measured side by side.
      visible: whether a progress bar shows the making of the corruptions.
    """

    def __init__(
        self, settings: AttackSettings, images: ImageSplit, chunks: int, visible: bool = True
    ):
        self.settings = settings
        self.images = images
        self.chunks = chunks
        self._visible = visible

    def measure(self, model: keras.Model) -> dict[str, float]:
        """Tests a network.

        Returns:
          `test/<attack>/accuracy` in [0, 1] under `natural`, the white-box attacks,
          `occlusion`, every `<corruption>_<severity>` and their means `semantic_<severity>`.
        """
        network = FoldedNetwork(model)
        attacks = {
            name: build_attack(threat_model, network)
            for name, threat_model in self.settings.white_box.items()
        }
        attacked = Evaluator(model, attacks, self.chunks, EVALUATION_BATCH).evaluate(self.images)
        accuracies = {
            name.removesuffix("/accuracy"): value
            for name, value in attacked.items()
            if name.endswith("/accuracy")
        }
        plain = Evaluator(model, {}, self.chunks, EVALUATION_BATCH)
        for name, split in self._shifted.items():
            accuracies[name] = plain.evaluate(split)["natural/accuracy"]
        accuracies |= semantic_mean(accuracies, self.settings.severities)
        return {f"test/{name}/accuracy": value for name, value in accuracies.items()}

    @functools.cached_property
    def _shifted(self):
        settings = self.settings
        with ProgressBar(1.0, self._visible) as bar:
            return shifted_splits(
                self.images,
                settings.severities,
                settings.occlusion_side,
                _CORRUPTION_SEED,
                bar.advance,
            )
