"""Strategies, networks and datasets that installed packages bring, by Python entry points.

A package names them in the groups `palimpsest.strategies`, `palimpsest.networks` and `palimpsest.datasets`
(docs/how-to/add-a-strategy.md). A worker loads them once, when it starts. What cannot be used is logged and
left out, whatever is wrong with it: the worker runs on with all the rest.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

import torch

from service.requests import offers
from service.requests.offers import MAX_ITEMS, NotUsable
from worker.catalog import describe_architecture, describe_dataset, describe_strategy
from worker.learning import datasets, networks, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import Architecture
from worker.learning.networks.network import Network
from worker.learning.package import NameTaken, Package
from worker.learning.slots import with_slots
from worker.learning.strategy import StrategyParams

log = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""How far the pixels of an exported decoder, in [0, 1], may be from those of the network."""


class Offer(NamedTuple):
    """Something that can be used: its entry in the catalog, and what makes it known to this process."""

    entry: Mapping[str, Any]
    add: Callable[[], None]


def load_packages() -> dict[str, list[Mapping[str, Any]]] | None:
    """Load what installed packages bring, and return it as entries of the catalog; None if it is nothing.

    Everything that is returned can be found by its name from now on: strategies, architectures, datasets.
    """
    offered: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in _MAKERS}
    for kind, point in _entry_points():
        where = f"the entry point {point.name!r} of the package {_name_of(point)}"
        try:
            if len(offered[kind]) == MAX_ITEMS:
                raise NotUsable(f"a worker offers {MAX_ITEMS} {kind} at most")
            offer = _make_offer(kind, point)
            offers.check(kind, offer.entry)
            offer.add()
        except (NotUsable, NameTaken) as error:
            log.error("%s is left out of the %s: %s", where, kind, error)
        except (Exception, SystemExit):  # of the package's own code: a module may call sys.exit
            log.exception("%s is left out of the %s: it cannot be loaded", where, kind)
        else:
            offered[kind].append(offer.entry)
            log.info("%s brings %r to the %s", where, offer.entry["name"], kind)
    return offered if any(offered.values()) else None


def _entry_points() -> Iterator[tuple[str, EntryPoint]]:
    """Yield the entry points of all groups with the list of the catalog that they belong to, by package."""
    for kind, (group, _) in _MAKERS.items():
        try:
            found = sorted(entry_points(group=group), key=lambda point: (_name_of(point), point.name))
        except Exception:
            log.exception(
                "no %s of other packages are offered: the metadata of a package cannot be read", kind
            )
            continue
        for point in found:
            yield kind, point


def _name_of(point: EntryPoint) -> str:
    return "" if point.dist is None else str(point.dist.name)


def _make_offer(kind: str, point: EntryPoint) -> Offer:
    if point.dist is None:
        raise NotUsable("it belongs to no package")
    package = Package(str(point.dist.name), str(point.dist.version))
    return _MAKERS[kind][1](point.load(), package)


def _offer_strategy(loaded: object, package: Package) -> Offer:
    declared = strategy.declaration_of(loaded)
    if declared is None:
        raise NotUsable(f"{loaded!r} is not a function with the decorator @strategy")
    if not (isinstance(declared.Params, type) and issubclass(declared.Params, StrategyParams)):
        raise NotUsable(f"its params are {declared.Params!r}, and should be a subclass of StrategyParams")
    one = replace(declared, package=package)
    return Offer(describe_strategy(one), lambda: strategy.add(one))


def _offer_dataset(loaded: object, package: Package) -> Offer:
    found = next(((info, read) for read, info in datasets.declared().items() if read is loaded), None)
    if found is None:
        raise NotUsable(f"{loaded!r} is not a function with the decorator @dataset")
    info, read = replace(found[0], package=package), found[1]
    return Offer(describe_dataset(info), lambda: datasets.add(info, read))


def _offer_network(loaded: object, package: Package) -> Offer:
    if not isinstance(loaded, Architecture):
        raise NotUsable(f"{loaded!r} is not an Architecture")
    one = replace(loaded, package=package)
    _check_network(one)
    return Offer(describe_architecture(one), lambda: networks.add(one))


def _check_network(one: Architecture) -> None:
    """Raise NotUsable unless the network can be made, resized and exported as the other code expects.

    The API draws with the exported decoder, which is made from the weights alone (worker/learning/export.py).
    """
    if not (isinstance(one.network, type) and issubclass(one.network, Network)):
        raise NotUsable(f"its network is {one.network!r}, and should be a subclass of Network")
    checkpoint = _with_any_weights(
        with_slots(networks.make_blank(one, {}, seed=0), ["a", "b"], "none", "permanent")
    )
    network = networks.with_weights(one, checkpoint)
    shapes = {name: tensor.shape for name, tensor in checkpoint.weights.items()}
    for layer in network.prunable_layers():
        for name in (*layer.incoming, f"{layer.following}.weight"):
            if name not in shapes:
                raise NotUsable(f"its prunable layers name the parameter {name!r}, which it does not have")
    difference = _largest_difference(checkpoint, network)
    if not difference < TOLERANCE:
        raise NotUsable(
            f"its exported decoder draws other images than the network (they differ by {difference:.3g}): "
            "its layers must be decoder.0, decoder.1 ... with SiLU between them (worker/learning/export.py)"
        )


def _with_any_weights(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with random values where a new network has zeros: biases and label embeddings."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: tensor if tensor.any() else torch.randn(tensor.shape, generator=generator)
        for name, tensor in checkpoint.weights.items()
    }
    return replace(checkpoint, weights=weights)


def _largest_difference(checkpoint: Checkpoint, network: Network) -> float:
    import onnxruntime  # only packages that bring a network need it, and ONNX, to start a worker

    from worker.learning.export import network_onnx

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of constants that it removes from the graph
    session = onnxruntime.InferenceSession(
        network_onnx(checkpoint, network), options, providers=["CPUExecutionProvider"]
    )
    slots = torch.tensor([0, 1, 1])
    noise = network.prior_noise(slots, torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = network.decode(network.sample_prior(noise, slots), slots).sigmoid()
    (exported,) = session.run(None, {"noise": noise.numpy(), "slot": slots.numpy()})
    return float((torch.from_numpy(exported) - drawn).abs().max())


_MAKERS: Mapping[str, tuple[str, Callable[[object, Package], Offer]]] = {
    "strategies": ("palimpsest.strategies", _offer_strategy),
    "datasets": ("palimpsest.datasets", _offer_dataset),
    "architectures": ("palimpsest.networks", _offer_network),
}
"""{list of the catalog: (group of entry points, what makes an offer of a loaded object)}."""
