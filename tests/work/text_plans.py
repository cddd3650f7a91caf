"""Small plans of text classifiers; what they describe need not be there."""

import dataclasses

from experiments.robust_bert_tickets.plan import Trial
from experiments.robust_bert_tickets.settings import FineTuning, MaskLearning, RobustBertSettings
from tests.models.tiny_bert import CONFIG
from tf_tickets.attacks.embedding import EmbeddingAttack
from tf_tickets.attacks.text_recipes import TextRecipe
from tf_tickets.models.bert_conversion import BertConfig
from tf_tickets.text_work.nodes import (
    Drawn,
    Encoder,
    EncoderPlace,
    Redrawn,
    Scattered,
    TextAttacked,
    TextNetwork,
    Texts,
)
from tf_tickets.work.nodes import Platform

DATA_SET = "movie_reviews"
PLATFORM = Platform(1, 1, (("tensorflow", "2.21.0"),))
ENCODER = Encoder(
    name="tiny",
    config=BertConfig(CONFIG["vocab_size"], 2, 2, 16, 24, 20, 2, True, 0.02),
    sha256="1" * 64,
    vocabulary_sha256="2" * 64,
    lowercase=True,
    place=EncoderPlace("", "tiny", 0),
)
TEXTS = Texts(DATA_SET, "embedded", "3" * 64, 0, 12, 64, 16, 2000)
LEARNING = MaskLearning(
    1, 0.1, 1e-6, 0.5, (0.1, 0.4), "weight", "free_lb", EmbeddingAttack(0.03, 0.05, 2), "values"
)
METHODS = ("fine_tune", "lth", "free_lb", "random", "robust")


def make_settings(**changes):
    values = {
        "data_sets": (DATA_SET,),
        "seeds": (0,),
        "studies": ("main", "ablation", "importance", "convergence"),
        "methods": METHODS,
        "sparsity": {DATA_SET: 20},
        "sparsities": (20,),
        "penalties": (0.5,),
        "fine_tuning": FineTuning(1, 2, 16, 1e-3, 0.01, 0.1, 1.0, 0.1, "selected"),
        "mask_learning": {DATA_SET: LEARNING},
    }
    return RobustBertSettings(**values | changes)


TRIAL = Trial(make_settings(), TextNetwork(ENCODER, 2), TEXTS, 16, PLATFORM)
ROBUST, SEARCH, FREE_LB = TRIAL.training("robust"), TRIAL.search(), TRIAL.training("free_lb")
SCATTERED = dataclasses.replace(ROBUST, masks=Scattered(Drawn(SEARCH, 0.2), 0))
REDRAWN = dataclasses.replace(ROBUST, start=Redrawn(0, Drawn(SEARCH, 0.2)), masks=None)
ATTACKED = TextAttacked(
    of=ROBUST,
    at=4,
    recipe=TextRecipe("characters"),
    split="test",
    examples=3,
    among=16,
    resources=(("stop_words", "a list"),),
    platform=PLATFORM,
    labels=ROBUST.labels,
)
TEXT_NODES = (ROBUST, SEARCH, FREE_LB, SCATTERED, REDRAWN, ATTACKED)
