"""Libraries that say something on standard output as they are imported, without that."""

import contextlib
import io
from types import ModuleType


def import_keras_nlp() -> ModuleType:
    """keras-nlp, whose Keras Core names its backend, at the head of what a program prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        import keras_nlp
    return keras_nlp
