"""Speed and size, side by side with peers."""

import sys
from collections.abc import Sequence

from absl import flags


def parse(arguments: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Parses a command line into `values` and returns what of it are no flags.

    Raises:
      SystemExit: with 2, after one line about a flag that is wrong.
    """
    try:
        return values(arguments)
    except flags.Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
