"""Ends work where something is about to be written, as SIGKILL would, in this process."""

import contextlib
from unittest import mock

from tf_tickets.runs import files


class Killed(BaseException):
    """What no `except Exception` holds up, as little as SIGKILL."""


@contextlib.contextmanager
def killed_after(points):
    """The body is killed once it has written at so many points; yields whether that has come."""
    come = []

    def kill(path):
        come.append(path)
        if len(come) > points:
            raise Killed(path)

    with mock.patch.object(files, "before_commit", kill), contextlib.suppress(Killed):
        yield lambda: len(come) > points


def killed_at_every_point(act):
    """Kills `act(0)` at the first point where it writes, `act(1)` at the second, and so on.

    Yields the number after each kill, and ends when one was not killed.
    """
    points = 0
    while True:
        with killed_after(points) as was_killed:
            act(points)
        if not was_killed():
            return
        yield points
        points += 1
