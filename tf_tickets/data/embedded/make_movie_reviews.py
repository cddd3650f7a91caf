"""Cuts the embedded sample of movie-review sentences out of the rated ones of vaderSentiment.

    python -m tf_tickets.data.embedded.make_movie_reviews FILE

FILE has a header and, tab-separated, the mean human rating (-4 to 4), its sign as the label and
the sentence. The sample has the sentences that are clearly rated (beyond 1 on either side) and at
least five words long, each but once: of each label 1,200 to train on and 300 to test on, drawn
with seed 0 and kept in the order of FILE. The command writes movie_reviews.tsv beside this file and
prints its SHA-256, which `text_registry.py` pins. Running it again gives the same bytes.
"""

import argparse
import hashlib
import pathlib

import numpy as np

SEED = 0
TRAIN_PER_CLASS = 1_200
TEST_PER_CLASS = 300
CLEAR_RATING = 1
FEWEST_WORDS = 5


def clear_sentences(rows):
    """Chooses the sentences that may be in the sample.

    Args:
        rows: (rating, label, sentence) triples, as strings.

    Returns:
        List of (label, sentence): clearly rated, long enough and, whatever their case, different.
    """
    chosen = {}
    for rating, label, sentence in rows:
        if abs(float(rating)) > CLEAR_RATING and len(sentence.split()) >= FEWEST_WORDS:
            chosen.setdefault(sentence.lower(), (label, sentence))
    return list(chosen.values())


def draw(sentences):
    """Draws the sample.

    Args:
        sentences: (label, sentence) pairs.

    Returns:
        List of (split, label, sentence), "train" or "test", in the order of `sentences`.
    """
    # NumPy promises RandomState's numbers for good; default_rng's may change with a release.
    generator = np.random.RandomState(SEED)
    labels = np.array([label for label, _ in sentences])
    splits = {}
    for label in np.unique(labels):
        order = generator.permutation(np.flatnonzero(labels == label))
        splits |= dict.fromkeys(order[:TRAIN_PER_CLASS], "train")
        splits |= dict.fromkeys(order[TRAIN_PER_CLASS:][:TEST_PER_CLASS], "test")
    return [(splits[index], *sentences[index]) for index in sorted(splits)]


def main():
    """Writes the sample beside this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=pathlib.Path, help="tab-separated rated sentences")
    lines = parser.parse_args().file.read_text("utf-8").removesuffix("\n").split("\n")
    sample = draw(clear_sentences(line.split("\t") for line in lines[1:]))
    contents = "".join("\t".join(row) + "\n" for row in sample).encode()
    pathlib.Path(__file__).with_name("movie_reviews.tsv").write_bytes(contents)
    print(hashlib.sha256(contents).hexdigest())


if __name__ == "__main__":
    main()
