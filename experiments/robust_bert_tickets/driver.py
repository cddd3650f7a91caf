"""Reproduces "Robust Lottery Tickets for Pre-trained Language Models" (2022).

    python -m experiments.robust_bert_tickets

Learns hard-concrete masks over a pre-trained BERT under an adversarial loss, draws tickets from
them, retrains these beside fine-tuning, FreeLB, InfoBERT, magnitude pruning and random tickets,
and attacks all of them with texts. Which sparse networks resist better than the whole one?
`--study` does a part of the paper; one run may hold all studies, one after the other.
"""

import dataclasses
import functools
import os
import sys
from pathlib import Path

from experiments import engine, kinds
from experiments import flags as common
from experiments.robust_bert_tickets.plan import Trial, of_stage
from experiments.robust_bert_tickets.presets import (
    COLUMNS_OF_TABLE_6,
    OTHER_SPARSITY,
    PAPER,
    PRESETS,
    SPARSITY,
    TABLE_6,
)
from experiments.robust_bert_tickets.report import write_report
from experiments.robust_bert_tickets.settings import (
    METHODS,
    SEARCH_CLIPS,
    SEARCH_OBJECTIVES,
    STUDIES,
    WEIGHTS,
    AttackSettings,
    FineTuning,
    MaskLearning,
    RobustBertSettings,
)
from tf_tickets import runtime
from tf_tickets.attacks.embedding import EmbeddingAttack
from tf_tickets.attacks.text_recipes import ATTACKS, RECIPE_PRESETS
from tf_tickets.attacks.text_resources import TextResources
from tf_tickets.data.text_registry import TEXT_DATA_SETS
from tf_tickets.deployment.text_exports import export_texts
from tf_tickets.errors import require, require_extra
from tf_tickets.masking.granularity import GRANULARITIES
from tf_tickets.models.bert_encoder import load_encoder
from tf_tickets.text_work.data import TextPlace, network_on
from tf_tickets.text_work.nodes import EncoderPlace
from tf_tickets.text_work.work import TextSetup
from tf_tickets.training.text_step import require_divisible

STAGES = ("train", "attack", "report")

define = common.definitions(("embedded", "tfds"))
engine.add_to(define)
text = f"Studies of the paper to make; by default {STUDIES[0]}."
define.choices("study", None, text, STUDIES)
define.choice(
    "stage",
    "all",
    "What to do; each stage needs those before it, `all` is all.",
    (*STAGES, "all"),
)
text = (
    "Processes that attack texts side by side, one network after the other; 0 for one a core. "
    "Decides no number."
)
define.integer("processes", 0, text, "[0, 1024]")
define.choices("data_sets", None, "What to train on.", TEXT_DATA_SETS)
define.integer("train_examples", None, "Training examples; 0 for all.", common.EXAMPLES)
define.integer("validation_examples", None, "Validation examples; 0 for all.", common.EXAMPLES)
define.integer("test_examples", None, "Test examples; 0 for all.", common.EXAMPLES)
text = (
    "keras-nlp's BERT to start from, downloaded if need be. Empty, and no --bert_dir: MiniLM, six "
    "layers, which comes with the extra `text`."
)
define.define(kinds.Optional(kinds.Name("bert_preset", kinds.any_name)), "bert_preset", None, text)
text = (
    "The BERT to start from: a folder as Hugging Face has it, with config.json, "
    "model.safetensors and vocab.txt."
)
define.define(kinds.Optional(kinds.Path()), "bert_dir", None, text)
text = "Keeps so many of the encoder's layers, the first; 0: all."
define.integer("layers", None, text, "[0, 1000]")
text = "Tokens an example is cut to; 0: the paper's, 128 or 256."
define.integer("length", None, text, "[0, 100000]")
define.choices("methods", None, "What study main compares.", METHODS)
text = "Sparsity of tickets, in percent; the paper's if not given."
define.integer("sparsity", None, text, "[1, 99]")
text = "Sparsities of tickets in study sparsity, in percent."
define.numbers("sparsities", None, text, "[1, 99]", whole=True)
text = "λ, weight of the masks' L0 norm, in study regularization."
define.numbers("penalties", None, text, "[0, 1000000]")
define.integer("epochs", None, "Length of a fine-tuning or a retraining.", common.EPOCHS)
text = "Length of a retraining of without_structure_longer."
define.integer("longer_epochs", None, text, common.EPOCHS)
define.integer("batch_size", None, "Examples a step.", common.BATCH)
text = "AdamW's highest learning rate; it falls linearly to 0."
define.number("learning_rate", None, text, common.RATE)
text = "Part of a fine-tuning or retraining in which the learning rate rises from 0."
define.number("warmup", None, text, "[0, 1)")
define.choice(
    "weights",
    None,
    "What a training ends with: the weights best on validation data, or those after its last step, "
    "so that all methods are trained equally long.",
    WEIGHTS,
)
define.number("weight_decay", None, "AdamW's weight decay.", "[0, 1)")
define.number("dropout", None, "Rate of all dropout layers.", "[0, 1)")
define.number("clip_value", None, "Gradients are cut to ± this.", "(0, 1000000]")
define.integer("search_epochs", None, "Length of the learning of masks.", common.EPOCHS)
text = "Highest learning rate of the masks; the paper's if not given."
define.number("search_learning_rate", None, text, common.RATE)
define.number("search_weight_decay", None, "Weight decay of the masks.", "[0, 1)")
define.choice(
    "search_clip",
    None,
    "What --clip_value cuts as masks are learned: the values of the gradients, or, as the paper's "
    "code, the norm of the loss' gradients, before λ∇R is added.",
    SEARCH_CLIPS,
)
text = "λ, weight of the masks' L0 norm; the paper's if not given."
define.number("penalty", None, text, "[0, 1000000]")
text = "Parts of the search between which λ rises from 0, such as 0.1,0.4."
define.numbers("penalty_warmup", None, text, "[0, 1]", least=2, most=2)
define.choice("granularity", None, "What one mask stands for.", GRANULARITIES)
text = "How masks, not weights, meet perturbed embeddings."
define.choice("objective", None, text, SEARCH_OBJECTIVES)
text = "η of Equation 7, the length of a step of the embeddings' attack; the paper's if not given."
define.number("adv_step_size", None, text, "[0, 1000]")
text = "ε₀, the size of the random start of the embeddings' attack; the paper's if not given."
define.number("adv_init_magnitude", None, text, "[0, 1000]")
text = "K: forward passes of FreeLB, or steps of PGD; the paper's if not given."
define.integer("adv_steps", None, text, "[1, 1000]")
text = "ε that perturbations of embeddings are projected to; 0: no bound."
define.number("adv_bound", None, text, "[0, 1000]")
text = "What attacks the networks' texts; the first of them is all studies'."
define.choices("attacks", None, text, ATTACKS)
text = "Recipes as TextAttack or as the paper's code has them."
define.choice("attack_recipe", None, text, RECIPE_PRESETS)
text = "Share of a text's words that attacks may change; 0: no limit."
define.number("max_words_changed", None, text, "[0, 1]")
text = "Words that BERT-Attack tries for one; TextAttack 0.3.0 had 48."
define.integer("bert_attack_candidates", None, text, "[1, 1000]")
text = "Test examples that are attacked; 0 for as many as the paper."
define.integer("attacked_examples", None, text, common.EXAMPLES)
text = "What attacks compare texts by: use, minilm, textattack, or a folder."
define.path("sentence_encoder", None, text)
text = "Where attacks find synonyms: textattack, a .npz or a .json."
define.path("word_vectors", None, text)
define.path("masked_lm", None, "What BERT-Attack proposes words by: textattack or a folder.")
text = "Folder of NLTK's data, if they are not where NLTK looks for them."
define.define(kinds.Optional(kinds.Path()), "nltk_data", None, text)
text = "Loads a --sentence_encoder that can run code, too. Only one of people you trust."
define.switch("trust", False, text)
FLAGS = define.values

REFERENCE = Path(__file__).parent / "reference.csv"


def mask_learning(config, data_set):
    """How masks are learned on a data set: Table 6, but for what flags say."""
    given = {name: config[name] for name in COLUMNS_OF_TABLE_6 if config[name] is not None}
    chosen = dict(zip(COLUMNS_OF_TABLE_6, TABLE_6[data_set])) | given
    attack = EmbeddingAttack(
        chosen["adv_step_size"],
        chosen["adv_init_magnitude"],
        chosen["adv_steps"],
        config["adv_bound"] or None,
    )
    chosen["penalty_warmup"] = common.numbers(config["penalty_warmup"])
    return common.settings_of(MaskLearning, config | chosen, attack=attack)


def settings_of(config):
    """The run that a configuration describes."""
    own = {name: SPARSITY.get(name, OTHER_SPARSITY) for name in config["data_sets"]}
    given = config["sparsity"]
    read = {
        "sparsity": own if given is None else dict.fromkeys(own, given),
        "sparsities": common.whole_numbers(config["sparsities"]),
        "penalties": common.numbers(config["penalties"]),
    }
    return common.settings_of(
        RobustBertSettings,
        config | read,
        studies=studies(),
        seeds=range(config["seed"], config["seed"] + config["trials"]),
        fine_tuning=common.settings_of(FineTuning, config),
        mask_learning={name: mask_learning(config, name) for name in own},
    )


def studies():
    """The studies asked for."""
    return tuple(FLAGS.study or STUDIES[:1])


def attack_settings(config, strategy):
    """How the run's networks are attacked."""
    return common.settings_of(
        AttackSettings,
        config,
        resources=common.settings_of(TextResources, config, trust=FLAGS.trust),
        platform=platform(strategy, runtime.attacking_versions()),
    )


def platform(strategy, versions):
    """What decides the bits of a number beside settings and data."""
    return dataclasses.replace(engine.platform(FLAGS, strategy), versions=versions)


def trials_of(config, strategy):
    """The networks of each data set and seed, whose texts are read for it.

    Raises:
      UserError: an encoder or texts that cannot be used.
    """
    settings = settings_of(config)
    place = common.settings_of(TextPlace, config, data_dir=FLAGS.data_dir)
    folder = config["bert_dir"]
    folder = folder and str(Path(folder).expanduser().absolute())  # Workers may be elsewhere.
    encoder_place = common.settings_of(EncoderPlace, config | {"bert_dir": folder})
    encoder = load_encoder(*dataclasses.astuple(encoder_place))
    if encoder.left_out:
        left_out = " and ".join(encoder.left_out)
        print(f"--bert_dir: {left_out} left out; each trial has a new classifier", file=sys.stderr)
    size, tested = config["batch_size"], config["test_examples"]
    require_divisible(size, strategy)
    computed_by = platform(strategy, runtime.deciding_text_versions())
    trials = []
    for data_set in settings.data_sets:
        for seed in settings.seeds:
            texts, data = place.read(encoder, data_set, seed)
            require(size <= texts.train, "batch_size", size, f"at most {texts.train}, one epoch")
            network = network_on(encoder, encoder_place, data.num_classes)
            trials.append(Trial(settings, network, texts, tested, computed_by))
    return trials


def scale(config):
    """How a configuration differs from the paper's, in words."""
    everything = {name: "all" for name in PAPER if name.endswith("_examples")}
    words = {name: word for name, word in everything.items() if not config[name]}
    own = {name: "the paper's" for name, value in PAPER.items() if value is None}
    words |= {name: word for name, word in own.items() if config[name] is None}
    return common.scale(config | words, PAPER | everything | own)


def read_config():
    """The configuration of the run, checked as far as that is possible without data."""
    config = common.resolve(FLAGS, PRESETS) | {"threads": FLAGS.threads}
    if FLAGS.bert_dir and FLAGS.bert_preset is None:
        config["bert_preset"] = ""  # The folder takes the place of the preset's encoder.
    engine.require_compatible(FLAGS)
    settings_of(config)
    folder = config["bert_dir"]
    found = not folder or os.path.isfile(Path(folder).expanduser() / "config.json")
    expected = "a folder with config.json, model.safetensors and vocab.txt"
    require(found, "bert_dir", folder, expected)
    attacked, most = FLAGS.attacked_examples, config["test_examples"]
    expected = f"at most --test_examples={most}"
    require(not (attacked and most) or attacked <= most, "attacked_examples", attacked, expected)
    return config


def main():
    """Runs, or resumes, the stages asked for."""
    require_extra("text", "keras_nlp", "tensorflow_text", "textattack")
    config, trials = read_config(), []
    stages = STAGES if FLAGS.stage == "all" else (FLAGS.stage,)

    def shown_on(strategy):
        attacks = attack_settings(config, strategy)
        # Where nothing is attacked, what attacks use need not be there.
        used = attacks.described_resources() if "attack" in stages else dict.fromkeys(ATTACKS, ())
        trials.extend(trials_of(config, strategy))
        trained = [each for trial in trials for each in trial.shown()]
        return [*trained, *(each for trial in trials for each in trial.attacks(attacks, used))]

    def report_of(run, store):
        if "report" not in stages:
            return ""
        robust = first_robust(config, trials)
        exports = export_texts(robust, store, FLAGS.data_dir, run.path / "exports")
        return write_report(run, exports, REFERENCE, scale(config), studies())

    engine.run(
        "robust_bert_tickets",
        config,
        FLAGS,
        shown_on,
        report_of,
        kind=TextSetup,
        options={"processes": FLAGS.processes or runtime.available_cores()},
        only=functools.partial(of_stage, FLAGS.stage),
    )


def first_robust(config, trials):
    """The robust tickets of the first trials, as far as the studies have them."""
    first = [trial for trial in trials if trial.texts.seed == config["seed"]]
    asked_for = {each for trial in first for each in trial.trainings()}
    robust = [trial.training("robust") for trial in first]
    return [each for each in robust if each in asked_for]
