"""The text data sets by name, from the embedded sample or TensorFlow Datasets."""

import dataclasses
import hashlib
import importlib.resources

import numpy as np

from tf_tickets.data.splits import stratified_fraction
from tf_tickets.data.text import TextData, TextSplit
from tf_tickets.data.text_tfds import read_text_splits
from tf_tickets.errors import UserError, require_choices

EMBEDDED = "movie_reviews"

TEXT_SOURCES = ("embedded", "tfds")

# Percent of the training examples that are set aside for validation.
_VALIDATION = 10

_SAMPLE_SHA256 = "870fd260d37408a5d92c0fd91e9da7bb688095d7e6a48e77faafc45a782187ed"


@dataclasses.dataclass(frozen=True)
class TextSpec:
    """Where a data set is and what it holds.

    Attributes:
        class_names: in the order of the labels.
        parts: the names of an example's texts.
        tfds_name: TFDS's name; None for the embedded sample.
        features: for each part TFDS's features that it is made of; None where they are `parts`.
        test_split: TFDS's split that is the test. GLUE's are the official development sets, since
            the labels of its test sets are not public.
    """

    class_names: tuple[str, ...]
    parts: tuple[str, ...]
    tfds_name: str | None = None
    features: tuple[tuple[str, ...], ...] | None = None
    test_split: str = "validation"


_SPECS = {
    "movie_reviews": TextSpec(("negative", "positive"), ("sentence",)),
    "imdb": TextSpec(
        ("negative", "positive"), ("text",), "imdb_reviews/plain_text", test_split="test"
    ),
    "ag_news": TextSpec(
        ("World", "Sports", "Business", "Sci/Tech"),
        ("text",),
        "ag_news_subset",
        features=(("title", "description"),),
        test_split="test",
    ),
    "sst2": TextSpec(("negative", "positive"), ("sentence",), "glue/sst2"),
    "qnli": TextSpec(("entailment", "not_entailment"), ("question", "sentence"), "glue/qnli"),
    "mnli": TextSpec(
        ("entailment", "neutral", "contradiction"),
        ("premise", "hypothesis"),
        "glue/mnli",
        test_split="validation_matched",
    ),
    "qqp": TextSpec(("not_duplicate", "duplicate"), ("question1", "question2"), "glue/qqp"),
    "mrpc": TextSpec(("not_equivalent", "equivalent"), ("sentence1", "sentence2"), "glue/mrpc"),
}

TEXT_DATA_SETS = tuple(_SPECS)


def load_texts(data_set, data_source, data_dir=None, seed=0):
    """Loads a data set and sets some of its training examples aside for validation.

    The title and the description of ag_news' articles are one text, joined by a space.

    Args:
        data_set: one of TEXT_DATA_SETS.
        data_source: "embedded" for the sample that comes with the package, of "movie_reviews";
            "tfds" for all others, as TFDS has prepared them.
        data_dir: TFDS's directory for "tfds", by default TFDS's own.
        seed: non-negative int that chooses the validation examples.

    Returns:
        TextData. Validation has 10% of the training examples, of each class the same part. Tests
        are the test splits of imdb, ag_news and the sample, and GLUE's development sets.

    Raises:
        UserError: if an argument is none of these, or what was found is missing, damaged or
            without labels.
    """
    require_choices("data_sets", [data_set], TEXT_DATA_SETS)
    require_choices("data_source", [data_source], TEXT_SOURCES)
    source = "embedded" if data_set == EMBEDDED else "tfds"
    if data_source != source:
        raise UserError(
            f"--data_sets={data_set} comes from --data_source={source}, not {data_source}"
        )
    if source == "embedded" and data_dir:
        raise UserError(
            f"--data_dir={data_dir} is for --data_source=tfds, but --data_source=embedded was "
            "given; leave one of the two out"
        )
    spec = _SPECS[data_set]
    train, test = _read_sample() if source == "embedded" else _read_tfds(spec, data_dir)
    chosen = stratified_fraction(train.labels, _VALIDATION, seed)
    return TextData(
        name=data_set,
        parts=spec.parts,
        class_names=spec.class_names,
        train=train.subset(np.setdiff1d(np.arange(len(train)), chosen)),
        validation=train.subset(chosen),
        test=test,
        origin=f"{data_set} ({source})",
    )


def _read_tfds(spec, data_dir):
    features = spec.features or tuple((part,) for part in spec.parts)
    splits = ("train", spec.test_split)
    return read_text_splits(spec.tfds_name, data_dir, splits, features, len(spec.class_names))


def _read_sample():
    """Returns (train, test) of the sample that comes with the package."""
    path = importlib.resources.files("tf_tickets.data.embedded") / f"{EMBEDDED}.tsv"
    try:
        contents = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; install tf_tickets again") from error
    if hashlib.sha256(contents).hexdigest() != _SAMPLE_SHA256:
        raise UserError(f"{path} is damaged (wrong SHA-256); install tf_tickets again")
    rows = [line.split("\t") for line in contents.decode().splitlines()]
    return tuple(
        TextSplit(
            tuple((sentence,) for split, _, sentence in rows if split == name),
            np.array([label for split, label, _ in rows if split == name], np.int32),
        )
        for name in ("train", "test")
    )
