"""Networks that come from others by taking filters and residual blocks out."""

import dataclasses
from collections.abc import Iterable

from tf_tickets.structured.selection import Cut


@dataclasses.dataclass(frozen=True)
class Network:
    """A network to train.

    Attributes:
      method: its name in the results; with model, regime and level it is unique.
      model: the architecture that it is, or was cut from.
      regime: `natural`, or a way of mixing images in `data.augmentation.MIXING`.
      epochs: how long it trains; the learning rate falls at a half and three quarters.
      learning_rate: the highest.
      base: the trained network that it comes from; None for a new one.
      cut: what is taken out of the base; None for nothing.
      start: the weights that it trains from: what is left of the `base`'s, `new` random
        ones, or what is left of those that the base had at `rewind_epoch`.
      rewind_epoch: of the base's training, for the start `rewound`.
    """

    method: str
    model: str
    regime: str
    epochs: int
    learning_rate: float
    base: "Network | None" = None
    cut: Cut | None = None
    start: str = "base"
    rewind_epoch: int = 0

    @property
    def level(self) -> int:
        """How many cuts lie behind it."""
        return (self.base.level if self.base else 0) + (self.cut is not None)


def in_order(networks: Iterable[Network]) -> list[Network]:
    """The networks and all that they come from, each once, none before its base.

    Raises:
      ValueError: two different networks of one name.
    """
    ordered = {}
    for network in networks:
        before = in_order([network.base]) if network.base else []
        for each in (*before, network):
            key = (each.model, each.regime, each.method, each.level)
            if ordered.setdefault(key, each) != each:
                raise ValueError(f"two different networks are called {key}")
    return list(ordered.values())
