"""Progress bars that show the time left."""

import sys

from tqdm import tqdm


class _Forgiving:
    """A stream that may be closed or full: what is shown decides nothing."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self):
        try:
            self._stream.flush()
        except (OSError, ValueError):
            pass


class ProgressBar:
    """A bar on standard error over work of known size.

    Args:
      total: size of the work, in any unit.
      visible: False hides it.
    """

    def __init__(self, total: float, visible: bool = True):
        self._bar = tqdm(
            total=total,
            file=_Forgiving(sys.stderr),
            disable=not visible or not total or sys.stderr is None,
            bar_format="{percentage:3.0f}% {bar:30} {elapsed} passed, {remaining} left  {desc}",
            mininterval=1.0,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def advance(self, amount: float, description: str) -> None:
        """Moves on by `amount` and says what is being worked on."""
        self._bar.set_description_str(description, refresh=False)
        # Rounded shares may add up to a little more than the whole.
        self._bar.update(min(amount, self._bar.total - self._bar.n) if self._bar.total else 0)
