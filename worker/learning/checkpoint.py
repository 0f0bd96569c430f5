"""The checkpoint of a version (spec, weights, labels, Fisher information), and how it is stored as bytes."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

FORMAT = 2
"""1 had one Gaussian for each label: its priors lack the axis of the components, and have no weights. It also
had the Fisher information, which is not read any more (docs/decisions/0159)."""
Status = Literal["temporary", "permanent", "forgotten"]
Prior = Literal["mixture", "fitted", "standard"]


class NotACheckpoint(ValueError):
    """The bytes are not a checkpoint, or its format is not one that this code reads."""


@dataclass(frozen=True)
class Label:
    """A label that the network draws or has forgotten, and its slot: its row in each label embedding table.

    The slot of a label never changes. Learning it again clears the slot first and adds one to `generation`.
    A forgotten label stays listed, so that every later version can be tested for whether it draws the label
    again.
    """

    name: str
    slot: int
    dataset: str
    status: Status = "permanent"
    generation: int = 1
    renamed_from: str | None = None

    @property
    def source(self) -> str:
        """The label's name in its dataset, by which its images and its judge are found."""
        return self.renamed_from or self.name


@dataclass(frozen=True)
class Spec:
    """What a network is built from.

    encoder_widths, decoder_widths: units of the hidden layers, in the order data flows through them.
    latent: dimensions of z. slots: rows of every label embedding table. pixels: number of pixels of an image.
    prior: `mixture`, p(z | c) is a mixture of Gaussians fitted to each label when it is learnt; `fitted`, it
        is one Gaussian; `standard`, it is N(0, I) for all labels.
    components: how many Gaussians the prior of a label may have.
    """

    architecture: str
    encoder_widths: tuple[int, ...]
    decoder_widths: tuple[int, ...]
    latent: int
    slots: int
    pixels: int = 784
    prior: Prior = "fitted"
    components: int = 1


@dataclass(frozen=True)
class Checkpoint:
    """The immutable state of a model. A strategy takes one and returns another.

    weights: the main network's state, name -> float32 tensor on the CPU. They are also the anchor theta* of
        the EWC penalty, so changing the shapes of the weights changes the anchor too.
    fisher: the diagonal of the Fisher information at these weights, parameter name -> tensor of its shape, in
        nats^2 per squared unit of weight: the mean, over the network's own draws of the retained labels, of
        the squared per-example gradient of the ELBO. None unless a strategy has computed it for a penalty of
        its own: versions are stored without it (docs/decisions/0159).
    isolated: one checkpoint for each temporary label, which has no slot in the main network. Everything else
        in this class is about the main network only, so that no strategy mixes the two.
    """

    spec: Spec
    weights: Mapping[str, Tensor]
    labels: tuple[Label, ...] = ()
    fisher: Mapping[str, Tensor] | None = field(default=None)
    isolated: tuple["Checkpoint", ...] = ()

    @property
    def parameters(self) -> int:
        """The number of values in the main network, label priors included."""
        return sum(tensor.numel() for tensor in self.weights.values())

    @property
    def widths(self) -> dict[str, list[int]]:
        return {"encoder": list(self.spec.encoder_widths), "decoder": list(self.spec.decoder_widths)}

    @property
    def retained(self) -> dict[str, int]:
        """The labels that the main network should draw, name -> slot; forgotten ones are left out."""
        return {label.name: label.slot for label in self.labels if label.status != "forgotten"}

    @property
    def forgotten(self) -> dict[str, int]:
        """The labels that the main network has forgotten, name -> slot."""
        return {label.name: label.slot for label in self.labels if label.status == "forgotten"}

    @property
    def temporary(self) -> dict[str, "Checkpoint"]:
        """The isolated networks, by the temporary label that each of them draws."""
        return {label.name: one for one in self.isolated for label in one.labels}

    def without_isolated(self, names: Iterable[str]) -> "Checkpoint":
        """Return the checkpoint without the isolated networks of these labels; nothing else changes."""
        dropped = set(names)
        kept = tuple(one for name, one in self.temporary.items() if name not in dropped)
        return replace(self, isolated=kept)

    def holder(self, name: str) -> "Checkpoint":
        """Return the checkpoint whose network draws the label: an isolated one if the label is temporary."""
        return self.temporary.get(name, self)

    def label(self, name: str) -> Label:
        """Return a label of the main network by its name. Raises KeyError, which lists the known names."""
        for label in self.labels:
            if label.name == name:
                return label
        raise KeyError(
            f"no label {name!r} in this checkpoint; its labels: {[label.name for label in self.labels]}"
        )

    def with_status(self, names: Iterable[str], status: Status) -> "Checkpoint":
        """Return the checkpoint with a new status for these labels; weights and slots do not change."""
        chosen = set(names)
        labels = tuple(replace(one, status=status) if one.name in chosen else one for one in self.labels)
        return replace(self, labels=labels)

    def renamed(self, sources: Mapping[str, str]) -> "Checkpoint":
        """Record the name in the dataset of each label that has another name there: label -> that name.

        Forgotten labels do not change: a temporary label with other images may have the same name now.
        """
        labels = tuple(
            one
            if one.status == "forgotten"
            else replace(one, renamed_from=sources.get(one.name, one.renamed_from))
            for one in self.labels
        )
        return replace(self, labels=labels, isolated=tuple(one.renamed(sources) for one in self.isolated))

    def to_bytes(self) -> bytes:
        """Write the main network as one safetensors file; equal checkpoints give equal bytes.

        It does not contain the isolated networks, each of which has its own file, nor Fisher information.
        """
        tensors = {f"weights/{name}": tensor.contiguous() for name, tensor in self.weights.items()}
        header = {
            "format": FORMAT,
            "spec": asdict(self.spec),
            "labels": [asdict(label) for label in self.labels],
        }
        # One metadata key only: the library writes several in no fixed order.
        return safetensors.torch.save(tensors, metadata={"palimpsest": json.dumps(header, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Checkpoint":
        """Read what `to_bytes` wrote. Raises NotACheckpoint if the bytes cannot be read."""
        header = _header(data)
        written_format = header.get("format")
        if written_format not in (1, FORMAT):
            raise NotACheckpoint(
                f"checkpoint format {written_format!r}; this code reads formats 1 to {FORMAT}"
            )
        try:
            tensors = safetensors.torch.load(data)
            weights = _under("weights/", tensors)
            return cls(
                spec=_spec(header["spec"]),
                weights=_with_components(weights) if written_format == 1 else weights,
                labels=tuple(Label(**label) for label in header["labels"]),
            )
        except (SafetensorError, KeyError, TypeError) as error:
            raise NotACheckpoint(f"the checkpoint is incomplete: {error!r}") from error


def _header(data: bytes) -> dict[str, Any]:
    # A safetensors file begins with the length of its JSON header, eight bytes, little endian.
    try:
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        header = json.loads(metadata["palimpsest"])
    except (ValueError, KeyError, TypeError) as error:
        raise NotACheckpoint("the bytes are not a Palimpsest checkpoint (no readable header)") from error
    return dict(header)


def _spec(fields: dict[str, Any]) -> Spec:
    widths = {name: tuple(fields[name]) for name in ("encoder_widths", "decoder_widths")}
    return Spec(**{**fields, **widths})


def _with_components(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add what format 1 lacks: the axis of the components, of which there is one, and its weight."""
    weights["prior_mean"] = weights["prior_mean"][:, None]
    weights["prior_scale"] = weights["prior_scale"][:, None]
    weights["prior_weight"] = weights["prior_mean"].new_ones(weights["prior_mean"].shape[:2])
    return weights


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensors[name] for name in sorted(tensors) if name.startswith(prefix)}
