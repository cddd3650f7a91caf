"""The text data sets: the sample that comes with the package, and what TFDS has prepared."""

import hashlib
import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import tf_tickets
from tf_tickets.data import text_registry
from tf_tickets.data.embedded import make_movie_reviews
from tf_tickets.data.text_registry import TEXT_DATA_SETS, load_texts
from tf_tickets.errors import UserError

EMBEDDED = pathlib.Path(tf_tickets.__file__).parent / "data" / "embedded"
SHARED = pathlib.Path(__file__).parents[2].parent / "shared"
SNIPPETS = SHARED / "text" / "movie_review_snippets.tsv"

# TFDS's name, its features, its splits, and for a row of words what the texts should be.
PREPARED = {
    "imdb": ("imdb_reviews/plain_text", ["text"], ["train", "test"], ["{0}"]),
    "ag_news": ("ag_news_subset", ["title", "description"], ["train", "test"], ["{0} {1}"]),
    "sst2": ("glue/sst2", ["sentence"], ["train", "validation"], ["{0}"]),
    "qnli": ("glue/qnli", ["question", "sentence"], ["train", "validation"], ["{0}", "{1}"]),
    "mnli": (
        "glue/mnli",
        ["premise", "hypothesis"],
        ["train", "validation_matched"],
        ["{0}", "{1}"],
    ),
    "qqp": ("glue/qqp", ["question1", "question2"], ["train", "validation"], ["{0}", "{1}"]),
    "mrpc": ("glue/mrpc", ["sentence1", "sentence2"], ["train", "validation"], ["{0}", "{1}"]),
}
CLASSES = {"ag_news": 4, "mnli": 3}


def feature(value):
    if isinstance(value, str):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def write_split(path, examples):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            features = {name: feature(value) for name, value in example.items()}
            message = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(message.SerializeToString())


def write_set(data_dir, tfds_name, splits):
    """Writes splits, lists of examples, as TFDS prepares the data set; returns its folder."""
    name, _, config = tfds_name.partition("/")
    version = str(tfds.builder(tfds_name, data_dir=data_dir).version)
    folder = data_dir / tfds_name / version
    folder.mkdir(parents=True)
    info = {"name": name, "version": version, "fileFormat": "tfrecord", "splits": []}
    info |= {"configName": config} if config else {}
    for split, examples in splits.items():
        shards = {"numBytes": "1", "shardLengths": [str(len(examples))]}
        info["splits"].append({"name": split, **shards})
        write_split(folder / f"{name}-{split}.tfrecord-00000-of-00001", examples)
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def examples(name, split, count, first_label=0):
    """Rows of words that say where they are from; the labels go round."""
    columns, classes = PREPARED[name][1], CLASSES.get(name, 2)
    return [
        {column: f"{split} {column} {row} é" for column in columns}
        | {"label": first_label + row % classes}
        | ({"idx": row} if PREPARED[name][0].startswith("glue") else {})
        for row in range(count)
    ]


def write_prepared(data_dir, name, test_label=0):
    train, test = PREPARED[name][2]
    unused = "unsupervised" if name == "imdb" else "test_of_no_labels"
    splits = {train: examples(name, train, 60), test: examples(name, test, 12, test_label)}
    return write_set(data_dir, PREPARED[name][0], splits | {unused: examples(name, "no", 3, -1)})


@pytest.mark.parametrize("name", PREPARED)
def test_prepared_by_tfds(tmp_path, name):
    write_prepared(tmp_path, name)
    data = load_texts(name, "tfds", tmp_path)
    _, columns, (train, test), parts = PREPARED[name]
    assert (data.name, data.origin, len(data.parts)) == (name, f"{name} (tfds)", len(parts))
    assert (len(data.train), len(data.validation), len(data.test)) == (54, 6, 12)
    assert data.num_classes == CLASSES.get(name, 2)

    def texts(split, row):
        words = [f"{split} {column} {row} é" for column in columns]
        return tuple(part.format(*words) for part in parts)

    assert data.test.texts == tuple(texts(test, row) for row in range(12))
    assert data.test.labels.tolist() == [row % data.num_classes for row in range(12)]
    seen = {**dict(zip(data.train.texts, data.train.labels))}
    seen |= dict(zip(data.validation.texts, data.validation.labels))
    assert seen == {texts(train, row): row % data.num_classes for row in range(60)}
    shares = np.bincount(data.validation.labels)
    assert len(shares) == data.num_classes and shares.max() - shares.min() <= 1


def message(*arguments):
    with pytest.raises(UserError) as caught:
        load_texts(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_examples_without_labels_are_refused(tmp_path):
    folder = write_prepared(tmp_path, "qnli", test_label=-1)
    found = f"the validation split of glue/qnli in {folder} has labels -1 to 0, expected 0 to 1"
    assert found in message("qnli", "tfds", tmp_path)


def test_what_is_not_prepared_is_named(tmp_path):
    found = message("mnli", "tfds", tmp_path)
    assert found.startswith(f"--data_dir={tmp_path} does not hold glue/mnli 2.0.0; prepare it")


@pytest.mark.parametrize("damage", ["shard", "info"])
def test_damage_is_named(tmp_path, damage):
    folder = write_prepared(tmp_path, "sst2")
    if damage == "shard":
        (shard,) = folder.glob("*train.tfrecord*")
        shard.write_bytes(shard.read_bytes()[:500])
    else:
        (folder / "dataset_info.json").write_text("{")
    found = message("sst2", "tfds", tmp_path)
    assert found.startswith("--data_dir: ") and "damaged or half prepared" in found


@pytest.mark.parametrize(
    "arguments, found",
    [
        (
            ("cola", "tfds"),
            f"--data_sets=cola: expected one or more of {', '.join(TEXT_DATA_SETS)}",
        ),
        (("sst2", "folder"), "--data_source=folder: expected one or more of embedded, tfds"),
        (("sst2", "embedded"), "--data_sets=sst2 comes from --data_source=tfds, not embedded"),
        (("movie_reviews", "tfds"), "--data_sets=movie_reviews comes from --data_source=embedded"),
        (("movie_reviews", "embedded", "x"), "--data_dir=x is for --data_source=tfds"),
    ],
)
def test_wrong_arguments(arguments, found):
    assert message(*arguments).startswith(found)


def test_the_sample():
    data = load_texts("movie_reviews", "embedded", seed=4)
    assert (data.origin, data.parts) == ("movie_reviews (embedded)", ("sentence",))
    counts = [np.bincount(s.labels).tolist() for s in (data.train, data.validation, data.test)]
    assert counts == [[1_080, 1_080], [120, 120], [300, 300]]
    everything = [*data.train.texts, *data.validation.texts, *data.test.texts]
    assert len({sentence.lower() for (sentence,) in everything}) == 3_000
    words = {w: [0, 0] for w in ("bad", "dull", "funny", "moving")}
    for (sentence,), label in zip(data.train.texts, data.train.labels, strict=True):
        for word in words:
            words[word][label] += word in sentence.lower().split()
    assert words["bad"][0] > 2 * words["bad"][1] and words["dull"][0] > 2 * words["dull"][1]
    assert words["moving"][1] > words["moving"][0]


def test_the_seed_chooses_validation_and_never_the_test():
    zero, again, one = (load_texts("movie_reviews", "embedded", seed=s) for s in (0, 0, 1))
    assert zero.validation.texts == again.validation.texts != one.validation.texts
    assert zero.test.texts == one.test.texts


def test_the_sample_s_licence_lies_beside_it():
    notice = (EMBEDDED / "NOTICE.md").read_text()
    assert "movie_reviews.tsv" in notice and "Copyright (c) 2016 C.J. Hutto" in notice


def test_a_missing_or_changed_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(text_registry.importlib.resources, "files", lambda package: tmp_path)
    path = tmp_path / "movie_reviews.tsv"
    assert message("movie_reviews", "embedded") == f"{path} is missing; install tf_tickets again"
    shutil.copyfile(EMBEDDED / "movie_reviews.tsv", path)
    path.write_bytes(path.read_bytes().replace(b"train\t0", b"train\t1", 1))
    assert message("movie_reviews", "embedded").startswith(f"{path} is damaged (wrong SHA-256)")


def test_clear_sentences():
    rows = [
        ("1.5", "1", "It is a fine film."),
        ("0.9", "1", "It may be a film."),
        ("-1.0", "0", "It is rated exactly one."),
        ("-3", "0", "Only four words here"),
        ("-3", "0", "It is A FINE film."),
        ("-1.1", "0", "It is not a film."),
    ]
    chosen = make_movie_reviews.clear_sentences(rows)
    assert chosen == [("1", "It is a fine film."), ("0", "It is not a film.")]


@pytest.mark.skipif(not SNIPPETS.is_file(), reason=f"no {SNIPPETS}")
def test_the_sample_is_made_of_the_rated_sentences():
    rows = [line.split("\t") for line in SNIPPETS.read_text("utf-8").split("\n")[1:] if line]
    sample = make_movie_reviews.draw(make_movie_reviews.clear_sentences(rows))
    contents = "".join("\t".join(row) + "\n" for row in sample).encode()
    assert hashlib.sha256(contents).hexdigest() == text_registry._SAMPLE_SHA256
    ratings = {sentence: float(rating) for rating, _, sentence in rows}
    assert all((ratings[sentence] > 1) == (label == "1") for _, label, sentence in sample)
    assert all(abs(ratings[sentence]) > 1 for _, _, sentence in sample)


@pytest.mark.skipif(not (SHARED / "tfds" / "glue").is_dir(), reason=f"no glue in {SHARED}")
def test_the_real_sst_2():
    data = load_texts("sst2", "tfds", SHARED / "tfds")
    assert (len(data.train), len(data.validation), len(data.test)) == (6_228, 692, 872)
    assert np.bincount(data.test.labels).tolist() == [428, 444]  # As published.
