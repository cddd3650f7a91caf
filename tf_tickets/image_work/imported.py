"""Networks that somebody else trained, taken into the store."""

from collections.abc import Mapping
from pathlib import Path

from tf_tickets import runtime
from tf_tickets.errors import UserError
from tf_tickets.masking.ticket import Provenance, arrays_sha256, dense_ticket
from tf_tickets.models.pretrained import IMAGENET, Pretrained, load_pretrained
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import with_body
from tf_tickets.work.nodes import Data, Imported, Network, Platform
from tf_tickets.work.store import Record, Store


def read_public(
    source: str, network: Network, data: Data, seed: int, platform: Platform, masked: str
) -> tuple[Imported, bool]:
    """What a plan knows public weights by, see `load_pretrained`.

    Args:
      source: the file, or its name.
      network: what they are for.
      data, seed, platform, masked: as of `Imported`.

    Returns:
      It, and whether the weights have a last layer for as many classes.

    Raises:
      UserError: they cannot be read, or are of another network.
    """
    pretrained = load_pretrained(source, _build(network, seed))
    place = source if source == IMAGENET else str(Path(source).absolute())
    node = Imported(network, data, pretrained.sha256, seed, platform, masked, place)
    return node, _has_head(pretrained, network)


def import_network(imported: Imported, store: Store, shapes: Mapping, origin: str) -> None:
    """Reads the weights again and stores them, under a new last layer if theirs does not fit.

    Args:
      imported: what a plan knows them by.
      store: takes them.
      shapes: weight path → shape of what may be pruned of it.
      origin: what provenance says of the data.

    Raises:
      UserError: they are no longer what they were.
    """
    model = _build(imported.network, imported.seed)
    pretrained = load_pretrained(imported.source, model)
    if pretrained.sha256 != imported.sha256:
        raise UserError(
            f"{imported.source}: its content is not what it was when the run began; start the run "
            "again, which takes it for other weights"
        )
    weights = with_body(model, pretrained.body)
    if _has_head(pretrained, imported.network):
        weights |= pretrained.head
    provenance = Provenance(
        algorithm=f"weights of {Path(imported.source).name}",
        model=imported.network.name,
        model_config={
            "image_shape": list(imported.network.image_shape),
            "num_classes": imported.network.classes,
            "width_multiplier": imported.network.width_multiplier,
        },
        data_set=origin,
        seed=imported.seed,
        level=0,
        initial_weights_sha256=arrays_sha256(weights),
        parent_sha256="",
        versions=runtime.package_versions(),
    )
    ticket = dense_ticket(shapes, provenance)
    store.finish(imported, Record((), (0,), 0.0), ticket, [weights])


def _has_head(pretrained: Pretrained, network: Network) -> bool:
    return pretrained.num_classes == network.classes


def _build(network, seed):
    return build_model(
        network.name, network.image_shape, network.classes, seed, network.width_multiplier
    )
