"""What a choice takes from each layer, which layers are left alone, and why."""

from collections.abc import Collection

from tf_tickets.structured.channels import ChannelMap
from tf_tickets.structured.surgery import Removal


def removed_filters(channels: ChannelMap, removal: Removal) -> dict[str, tuple[int, ...]]:
    """Name of each layer whose filters may go → the indices of those that do, tied ones too.

    Args:
      channels: of the network.
      removal: what is taken out of it; that of blocks does not count.
    """
    gone = {
        unit
        for name, indices in removal.filters.items()
        for unit in channels.filters[name][list(indices)].tolist()
    }
    return {
        name: tuple(index for index, unit in enumerate(units.tolist()) if unit in gone)
        for name, units in channels.filters.items()
    }


def widths(channels: ChannelMap, removal: Removal) -> dict[str, tuple[int, int]]:
    """Name of each layer whose filters may go → how many it has, and how many stay.

    Args:
      channels: of the network.
      removal: what is taken out of it; that of blocks does not count.
    """
    removed = removed_filters(channels, removal)
    return {
        name: (len(units), len(units) - len(removed[name]))
        for name, units in channels.filters.items()
    }


def count_that_may_go(channels: ChannelMap, keep_layers: Collection[str]) -> int:
    """How many filters of all layers may go, those that only go together counted one by one.

    Args:
      channels: of the network.
      keep_layers: names of layers that stay as they are, with all that is tied to them.
    """
    kept = channels.units_made_by(keep_layers)
    units = [unit for units in channels.filters.values() for unit in units.tolist()]
    return sum(unit not in kept for unit in units)


def left_alone(channels: ChannelMap, keep_layers: Collection[str]) -> dict[str, str]:
    """Name of a layer that stays as it is → one line that says why.

    Args:
      channels: of the network.
      keep_layers: as above; names that no layer has do not count.
    """
    names = {call.name for call in channels.graph.calls}
    keep_layers = [name for name in keep_layers if name in names]
    keepers = {}  # Unit → the first layer that is to stay with it.
    for keeper in keep_layers:
        for unit in channels.units_made_by([keeper]):
            keepers.setdefault(unit, keeper)
    reasons = dict(channels.left_alone)
    for name, units in channels.filters.items():
        keeping = [keepers.get(unit) for unit in units.tolist()]
        if all(keeping):
            reasons[name] = f"it is tied to {keeping[0]}, which is one of --keep_layers"
    return reasons | dict.fromkeys(keep_layers, "it is one of --keep_layers")
