"""TextAttack 0.3.11, imported and built without a network and without writing beside it."""

import contextlib
import functools
import importlib
import importlib.metadata
import io
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from tf_tickets.errors import UserError, require_extra

# What NLTK's data are called in its folder, and in TextAttack's recipes.
_STOP_WORDS = "corpora/stopwords/english"
_TAGGER = (
    "taggers/averaged_perceptron_tagger_eng/averaged_perceptron_tagger_eng.weights.json",
    "taggers/universal_tagset/en-ptb.map",
)
# What TextAttack leaves in its cache when it has downloaded its own extras.
_POST_INSTALL_MARK = "post_install_check_3"


def import_textattack(nltk_data: str = "") -> ModuleType:
    """Imports TextAttack, offline.

    Its import fails without NLTK's English stop words. Where NLTK finds none, a list of
    scikit-learn's takes their place; see `stop_words_source`.

    Args:
      nltk_data: a folder to search for NLTK's data before all others, or "".

    Raises:
      UserError: the extra `text` is not installed, or the folder is missing.
    """
    require_extra("text", "textattack", "nltk", "torch", "transformers")
    os.environ["HF_HUB_OFFLINE"] = "1"
    search_nltk_data(nltk_data)
    if _find_nltk(_STOP_WORDS) is None:
        _add_stop_words_stand_in()
    if "textattack" not in sys.modules:
        # Reads its folders from the environment, which is set aside for the next import.
        importlib.import_module("transformers.utils.hub")
        with _without_post_install():
            importlib.import_module("textattack")
        # It warns of every victim whose class it has not heard of.
        logging.getLogger("textattack.shared.utils.install").setLevel(logging.ERROR)
    return sys.modules["textattack"]


def search_nltk_data(folder: str) -> None:
    """Lets NLTK search a folder before all others; "" changes nothing.

    Raises:
      UserError: there is no such folder.
    """
    import nltk

    if not folder:
        return
    if not Path(folder).is_dir():
        raise UserError(f"--nltk_data={folder}: no such folder")
    if folder not in nltk.data.path:
        nltk.data.path.insert(0, folder)


def stop_words_source(nltk_data: str = "") -> Path | str:
    """Where the stop words come from: NLTK's file, or what stands in for it."""
    search_nltk_data(nltk_data)
    path = _find_nltk(_STOP_WORDS)
    if path is not None and path.parents[2] != Path(_stand_in_folder().name):
        return path
    return f"scikit-learn {importlib.metadata.version('scikit-learn')} (NLTK's are not there)"


def tagger_source(nltk_data: str = "") -> Path:
    """The weights of NLTK's part-of-speech tagger.

    Raises:
      UserError: they, or its map to universal tags, are missing.
    """
    search_nltk_data(nltk_data)
    missing = [name for name in _TAGGER if _find_nltk(name) is None]
    if missing:
        raise UserError(
            f"--nltk_data={nltk_data}: expected a folder with {' and '.join(missing)}, which the "
            "recipe's part-of-speech constraint needs (NLTK ignores what others may write to)"
        )
    return _find_nltk(_TAGGER[0])


@contextlib.contextmanager
def homoglyph_table() -> Iterator[None]:
    """Lets `WordSwapHomoglyphSwap` be built although the wheel lacks a file that it opens.

    The file's table serves a search method that no recipe here uses, so an empty one will do.
    """
    from textattack.transformations.word_swaps import word_swap_homoglyph_swap as module

    module.open = lambda *_, **__: io.StringIO()
    try:
        yield
    finally:
        del module.open


def textattack_cache() -> Path:
    """The folder that TextAttack downloads to."""
    return Path(os.environ.get("TA_CACHE_DIR", "~/.cache/textattack")).expanduser()


@contextlib.contextmanager
def _without_post_install():
    """Imports of TextAttack in here do not start its downloads of NLTK's and Stanza's data."""
    if (textattack_cache() / _POST_INSTALL_MARK).exists():
        yield
        return
    cache, environment = textattack_cache(), dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / _POST_INSTALL_MARK).touch()
        os.environ["TA_CACHE_DIR"] = folder
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(environment)
    sys.modules["textattack.shared.utils.install"].TEXTATTACK_CACHE_DIR = str(cache)


def _find_nltk(name):
    import nltk

    try:
        return Path(nltk.data.find(name))
    except LookupError:
        return None


@functools.cache
def _stand_in_folder():
    """A temporary NLTK folder, made once a process and removed at its end."""
    return tempfile.TemporaryDirectory(prefix="tf_tickets-nltk-")


def _add_stop_words_stand_in():
    import nltk
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    path = Path(_stand_in_folder().name) / _STOP_WORDS
    # NLTK reads nothing that others may write to, whatever the user's umask allows them.
    for folder in reversed(path.parents[:2]):
        folder.mkdir(mode=0o700)
    path.touch(mode=0o600)
    path.write_text("\n".join(sorted(ENGLISH_STOP_WORDS)) + "\n")
    nltk.data.path.append(_stand_in_folder().name)
