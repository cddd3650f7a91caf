"""Reproduces "Robust Lottery Tickets for Pre-trained Language Models" (2022).

    python -m experiments.robust_bert_tickets

Learns hard-concrete masks over a pre-trained BERT under an adversarial loss, draws tickets from
them, retrains these beside fine-tuning, FreeLB, InfoBERT, magnitude pruning and random tickets,
and attacks all of them with texts. Which sparse networks resist better than the whole one?
`--study` does a part of the paper; one run may hold all studies, one after the other.
"""

import sys
from pathlib import Path

from absl import flags

from experiments import flags as common
from tf_tickets import runtime
from tf_tickets.analysis import robust_bert_report
from tf_tickets.attacks.embedding import EmbeddingAttack
from tf_tickets.attacks.text_recipes import ATTACKS, RECIPE_PRESETS
from tf_tickets.attacks.text_resources import TextResources
from tf_tickets.data.text_registry import TEXT_DATA_SETS
from tf_tickets.deployment.text_exports import export_robust_texts
from tf_tickets.errors import UserError, require_choices, require_extra
from tf_tickets.masking.granularity import GRANULARITIES
from tf_tickets.models.bert_encoder import load_encoder
from tf_tickets.runs.run_directory import RunDirectory
from tf_tickets.search.bert_tickets import BertTickets
from tf_tickets.search.robust_bert import (
    METHODS,
    SEARCH_CLIPS,
    SEARCH_OBJECTIVES,
    STUDIES,
    WEIGHTS,
    FineTuning,
    MaskLearning,
    RobustBertSettings,
)
from tf_tickets.search.text_bench import TextPlace
from tf_tickets.search.text_judgement import JudgeSettings, attack_networks

STAGES = ("train", "attack", "report")

flags.adopt_module_key_flags(common)
flags.DEFINE_list("study", None, f"Any of: {', '.join(STUDIES)}; by default {STUDIES[0]}.")
flags.DEFINE_enum(
    "stage", "all", [*STAGES, "all"], "What to do; each stage needs those before it, `all` is all."
)
flags.DEFINE_integer(
    "processes", 0, "Processes that attack side by side; 0 for one a core. Decides no number.", 0
)
flags.DEFINE_list("data_sets", None, f"Any of: {', '.join(TEXT_DATA_SETS)}.")
flags.DEFINE_integer("train_examples", None, "Training examples; 0 for all.")
flags.DEFINE_integer("validation_examples", None, "Validation examples; 0 for all.")
flags.DEFINE_integer("test_examples", None, "Test examples; 0 for all.")
flags.DEFINE_string("bert_preset", None, "keras-nlp's BERT to start from, downloaded if need be.")
flags.DEFINE_string(
    "bert_dir",
    None,
    "Or a folder as Hugging Face has it: config.json, model.safetensors, vocab.txt. Neither of "
    "the two: MiniLM, six layers, which comes with the extra `text`.",
)
flags.DEFINE_integer("layers", None, "Keeps so many of the encoder's layers, the first; 0: all.")
flags.DEFINE_integer("length", None, "Tokens an example is cut to; 0: the paper's, 128 or 256.")
flags.DEFINE_list("methods", None, f"What study main compares: {', '.join(METHODS)}.")
flags.DEFINE_integer("sparsity", None, "Of tickets, in percent; the paper's if not given.")
flags.DEFINE_list("sparsities", None, "The same of study sparsity.")
flags.DEFINE_list("penalties", None, "λ of study regularization.")
flags.DEFINE_integer("epochs", None, "Length of a fine-tuning or a retraining.")
flags.DEFINE_integer("longer_epochs", None, "The same of without_structure_longer.")
flags.DEFINE_integer("batch_size", None, "Examples a step.")
flags.DEFINE_float("learning_rate", None, "AdamW's highest; it falls linearly to 0.")
flags.DEFINE_float(
    "warmup", None, "Part of a fine-tuning or retraining in which it rises from 0."
)
flags.DEFINE_enum(
    "weights",
    None,
    WEIGHTS,
    "What a training ends with: the weights best on validation data, or those after its last step, "
    "so that all methods are trained equally long.",
)
flags.DEFINE_float("weight_decay", None, "AdamW's.")
flags.DEFINE_float("dropout", None, "Rate of all dropout layers.")
flags.DEFINE_float("clip_value", None, "Gradients are cut to ± this.")
flags.DEFINE_integer("search_epochs", None, "Length of the learning of masks.")
flags.DEFINE_float(
    "search_learning_rate", None, "Its highest learning rate; the paper's if not given."
)
flags.DEFINE_float("search_weight_decay", None, "Its weight decay.")
flags.DEFINE_enum(
    "search_clip",
    None,
    SEARCH_CLIPS,
    "What --clip_value cuts in it: the values of its gradients, or, as the paper's code, the norm "
    "of the loss' gradients, before λ∇R is added.",
)
flags.DEFINE_float("penalty", None, "λ, weight of the masks' L0 norm; the paper's if not given.")
flags.DEFINE_list(
    "penalty_warmup", None, "Parts of the search between which λ rises from 0, such as 0.1,0.4."
)
flags.DEFINE_enum("granularity", None, GRANULARITIES, "What one mask stands for.")
flags.DEFINE_enum(
    "objective", None, SEARCH_OBJECTIVES, "How masks, not weights, meet perturbed embeddings."
)
flags.DEFINE_float("adv_step_size", None, "η of Equation 7; the paper's if not given.")
flags.DEFINE_float("adv_init_magnitude", None, "ε₀ of the random start; likewise.")
flags.DEFINE_integer("adv_steps", None, "K: forward passes of FreeLB, or steps of PGD; likewise.")
flags.DEFINE_float("adv_bound", None, "ε that perturbations are projected to; 0: no bound.")
flags.DEFINE_list("attacks", None, f"Any of: {', '.join(ATTACKS)}; the first is all studies'.")
flags.DEFINE_enum(
    "attack_recipe", None, RECIPE_PRESETS, "Recipes as TextAttack or as the paper's code has them."
)
flags.DEFINE_float(
    "max_words_changed", None, "Share of a text's words that attacks may change; 0: no limit."
)
flags.DEFINE_integer(
    "bert_attack_candidates", None, "Words that BERT-Attack tries for one; TextAttack 0.3.0 had 48."
)
flags.DEFINE_integer("attacked_examples", None, "Of the test examples; 0 for as many as the paper.")
flags.DEFINE_string(
    "sentence_encoder", None, "use, minilm, textattack, or a folder; what attacks compare texts by."
)
flags.DEFINE_string(
    "word_vectors", None, "textattack, a .npz or a .json; where attacks find synonyms."
)
flags.DEFINE_string(
    "masked_lm", None, "textattack or a folder; what BERT-Attack proposes words by."
)
flags.DEFINE_string("nltk_data", None, "NLTK's data, if not where NLTK looks for them.")

REFERENCE = Path(__file__).parent / "reference" / "robust_bert_tickets.csv"
# By data set; others are as SST-2 if they are short reviews, and as QNLI if they are pairs.
SPARSITY = {"imdb": 20, "ag_news": 40}
OTHER_SPARSITY = 30
TABLE_6 = {
    "sst2": (0.03, 0.1, 0.5, 0.05, 5),
    "ag_news": (0.03, 0.05, 0.5, 0.05, 5),
    "imdb": (0.03, 0.1, 0.5, 0.05, 5),
    "qqp": (0.04, 0.05, 0.1, 0.05, 3),
    "qnli": (0.04, 0.05, 0.1, 0.05, 3),
    "mnli": (0.2, 0.1, 0.1, 0.05, 2),
}
TABLE_6 |= {"movie_reviews": TABLE_6["sst2"], "mrpc": TABLE_6["qqp"]}
COLUMNS_OF_TABLE_6 = (
    "adv_step_size",
    "search_learning_rate",
    "penalty",
    "adv_init_magnitude",
    "adv_steps",
)
PAPER = {
    "data_sets": ["imdb", "ag_news", "sst2"],
    "data_source": "tfds",
    "train_examples": 0,
    "validation_examples": 0,
    "test_examples": 0,
    "bert_preset": "bert_base_en_uncased",
    "bert_dir": "",
    "layers": 0,
    "length": 0,
    "methods": list(METHODS),
    "sparsity": None,
    "sparsities": [f"{sparsity}" for sparsity in range(10, 100, 10)],
    "penalties": ["0.1", "0.2", "0.5", "1"],
    "seed": 0,
    "trials": 5,
    "epochs": 3,
    "longer_epochs": 10,
    "batch_size": 32,
    "learning_rate": 2e-5,
    "weight_decay": 0.01,
    "dropout": 0.1,
    "clip_value": 1.0,
    "warmup": 0.1,
    "weights": "selected",
    "search_epochs": 20,
    "search_weight_decay": 1e-6,
    "search_clip": "values",
    "penalty_warmup": ["0.1", "0.4"],
    "granularity": "weight",
    "objective": "free_lb",
    "adv_bound": 0.0,
    **dict.fromkeys(COLUMNS_OF_TABLE_6),
    "attacks": ["textfooler", "textbugger", "bert_attack"],
    "attack_recipe": "textattack",
    "max_words_changed": 0.0,
    "bert_attack_candidates": 8,
    "attacked_examples": 0,
    "sentence_encoder": "textattack",
    "word_vectors": "textattack",
    "masked_lm": "textattack",
    "nltk_data": "",
}
QUICK = PAPER | {
    "data_sets": ["movie_reviews"],
    "data_source": "embedded",
    "test_examples": 400,
    "bert_preset": "",
    "layers": 2,
    "length": 64,
    "methods": ["fine_tune", "lth", "random", "robust"],
    "sparsities": ["30", "60", "80"],
    "penalties": ["0.1", "0.5"],
    "trials": 1,
    "epochs": 2,
    "longer_epochs": 4,
    "learning_rate": 1e-4,
    "search_epochs": 4,
    "adv_steps": 2,
    "attacks": ["characters"],
    "attacked_examples": 40,
}
SMOKE = QUICK | {
    "train_examples": 64,
    "validation_examples": 16,
    "test_examples": 16,
    "layers": 1,
    "length": 16,
    "sparsities": ["60"],
    "epochs": 1,
    "longer_epochs": 2,
    "batch_size": 16,
    "search_epochs": 1,
    "attacked_examples": 4,
}
PRESETS = dict(zip(common.PRESETS, (SMOKE, QUICK, PAPER)))


def configuration():
    """Of this run; a folder given takes the place of the preset's encoder."""
    config = common.resolve(PRESETS)
    if flags.FLAGS.bert_dir and flags.FLAGS.bert_preset is None:
        config["bert_preset"] = ""
    return config


def mask_learning(config, data_set):
    """How masks are learned on a data set: Table 6, but for what flags say."""
    paper = dict(zip(COLUMNS_OF_TABLE_6, TABLE_6[data_set]))
    chosen = {name: paper[name] if config[name] is None else config[name] for name in paper}
    warmup = common.numbers("penalty_warmup", config["penalty_warmup"])
    if len(warmup) != 2:
        text = ",".join(config["penalty_warmup"])
        raise UserError(f"--penalty_warmup={text}: expected two numbers, such as 0.1,0.4")
    return MaskLearning(
        epochs=config["search_epochs"],
        learning_rate=chosen["search_learning_rate"],
        weight_decay=config["search_weight_decay"],
        penalty=chosen["penalty"],
        penalty_warmup=warmup,
        granularity=config["granularity"],
        objective=config["objective"],
        attack=EmbeddingAttack(
            chosen["adv_step_size"],
            chosen["adv_init_magnitude"],
            chosen["adv_steps"],
            config["adv_bound"] or None,
        ),
        clip=config["search_clip"],
    )


def settings_of(config):
    """The run that a configuration describes."""
    names = tuple(config["data_sets"])
    require_choices("data_sets", names, TEXT_DATA_SETS)
    own = {name: SPARSITY.get(name, OTHER_SPARSITY) for name in names}
    given = config["sparsity"]
    return common.settings_of(
        RobustBertSettings,
        config
        | {
            "data_sets": names,
            "methods": tuple(config["methods"]),
            "sparsity": own if given is None else dict.fromkeys(names, given),
            "sparsities": common.whole_numbers("sparsities", config["sparsities"]),
            "penalties": common.numbers("penalties", config["penalties"]),
        },
        studies=studies(),
        seeds=range(config["seed"], config["seed"] + config["trials"]),
        fine_tuning=common.settings_of(FineTuning, config),
        mask_learning={name: mask_learning(config, name) for name in names},
    )


def studies():
    """The studies asked for."""
    asked = tuple(flags.FLAGS.study or STUDIES[:1])
    require_choices("study", asked, STUDIES)
    return asked


def judge_settings(config):
    """How the run's networks are attacked."""
    return JudgeSettings(
        tuple(config["attacks"]),
        config["attack_recipe"],
        config["max_words_changed"],
        config["bert_attack_candidates"],
        config["attacked_examples"],
        common.settings_of(TextResources, config),
    )


def scale(config):
    """How a configuration differs from the paper's, in words."""
    everything = {name: "all" for name in PAPER if name.endswith("_examples")}
    words = {name: word for name, word in everything.items() if not config[name]}
    own = {name: "the paper's" for name, value in PAPER.items() if value is None}
    words |= {name: word for name, word in own.items() if config[name] is None}
    return common.scale(config | words, PAPER | everything | own)


def main():
    """Runs, or resumes, the stages asked for."""
    require_extra("text", "keras_nlp", "tensorflow_text", "textattack")
    config = configuration()
    settings, judge = settings_of(config), judge_settings(config)
    place = common.settings_of(TextPlace, config, data_dir=flags.FLAGS.data_dir)
    stages = STAGES if flags.FLAGS.stage == "all" else (flags.FLAGS.stage,)
    if "attack" in stages:
        judge.require_resources()
    strategy = runtime.make_strategy(config["strategy"], config["logical_cpus"], True)
    encoder = load_encoder(config["bert_preset"], config["bert_dir"], config["layers"])
    if encoder.left_out:
        left_out = " and ".join(encoder.left_out)
        print(f"--bert_dir: {left_out} left out; each trial has a new classifier", file=sys.stderr)
    with runtime.stoppable() as stop_if_requested:
        run = RunDirectory(
            common.run_path("robust_bert_tickets", config),
            config,
            runtime.environment_report(strategy),
            writable=runtime.is_chief(strategy),
        )
        tickets = BertTickets(settings, encoder, place, run, strategy, stop_if_requested)
        tickets.require_trainable()
        if "train" in stages:
            tickets.train()
        if "attack" in stages:
            processes = flags.FLAGS.processes or runtime.available_cores()
            attack_networks(tickets, judge, settings.studies, processes)
        stop_if_requested()
        if run.writable and "report" in stages:
            exports = export_robust_texts(tickets)
            report = robust_bert_report.write_report(
                run, exports, REFERENCE, scale(config), settings.studies
            )
            print(report)


if __name__ == "__main__":
    common.run(main)
