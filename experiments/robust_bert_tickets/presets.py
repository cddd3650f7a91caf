"""Flags of the presets of "Robust Lottery Tickets for Pre-trained Language Models"."""

from experiments.robust_bert_tickets.settings import METHODS

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
PRESETS = {"smoke": SMOKE, "quick": QUICK, "paper": PAPER}
