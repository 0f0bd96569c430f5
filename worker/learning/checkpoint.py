"""A version as the learner holds it: spec + weights + labels + memory, to and from safetensors bytes."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

FORMAT = 1
Status = Literal["temporary", "permanent", "forgotten"]
Prior = Literal["fitted", "standard"]


class NotACheckpoint(ValueError):
    """The bytes are not a checkpoint of a format this code reads."""


@dataclass(frozen=True)
class Label:
    """A name the network can be (or once could be) asked to draw, and the slot that stands for it.

    A label keeps its slot for life: learning it again empties the slot first and adds one to `generation`.
    A forgotten label stays listed, so that every later version can be tested for a relapse.
    """

    name: str
    slot: int
    dataset: str
    status: Status = "permanent"
    generation: int = 1
    renamed_from: str | None = None

    @property
    def source(self) -> str:
        """The dataset's own name for it: what its images and its judge know it by."""
        return self.renamed_from or self.name


@dataclass(frozen=True)
class Spec:
    """What a network is built from. Widths are those of the hidden layers, input side first.

    prior: p(z | c) is `fitted` to each label once it is learnt, or stays `standard`, N(0, I) for all.
    """

    architecture: str
    encoder_widths: tuple[int, ...]
    decoder_widths: tuple[int, ...]
    latent: int
    slots: int
    pixels: int = 784
    prior: Prior = "fitted"


@dataclass(frozen=True)
class Checkpoint:
    """An immutable state of a model. Strategies take one and return another.

    weights: the network's state, on the CPU, float32. They are also the anchor theta* of the EWC penalty:
        a resize maps them, and so the anchor, to the new shapes.
    fisher: the diagonal of the Fisher information at these weights, parameter name -> tensor: the mean over
        the network's own draws of the labels held, of the squared per-example gradients of the ELBO
        [nats^2 / unit^2]; None before the first learn, and of a network that starts again.
    isolated: a checkpoint of its own for each temporary label, which has no slot here. Everything else in
        this class speaks of the main network alone, so no strategy can mix the two by accident.
    """

    spec: Spec
    weights: Mapping[str, Tensor]
    labels: tuple[Label, ...] = ()
    fisher: Mapping[str, Tensor] | None = field(default=None)
    isolated: tuple["Checkpoint", ...] = ()

    @property
    def parameters(self) -> int:
        """The number of trained values, label priors included."""
        return sum(tensor.numel() for tensor in self.weights.values())

    @property
    def widths(self) -> dict[str, list[int]]:
        return {"encoder": list(self.spec.encoder_widths), "decoder": list(self.spec.decoder_widths)}

    @property
    def held(self) -> dict[str, int]:
        """The labels this checkpoint may be asked to draw, name -> slot; forgotten ones are not."""
        return {label.name: label.slot for label in self.labels if label.status != "forgotten"}

    @property
    def forgotten(self) -> dict[str, int]:
        return {label.name: label.slot for label in self.labels if label.status == "forgotten"}

    @property
    def temporary(self) -> dict[str, "Checkpoint"]:
        """The isolated networks, by the label each holds."""
        return {label.name: one for one in self.isolated for label in one.labels}

    def without_isolated(self, names: Iterable[str]) -> "Checkpoint":
        """The checkpoint less the isolated networks of these labels; no bit of another network changes."""
        gone = set(names)
        return replace(self, isolated=tuple(one for name, one in self.temporary.items() if name not in gone))

    def holder(self, name: str) -> "Checkpoint":
        """Whose network draws the label: its own, if it is temporary, else the main one."""
        return self.temporary.get(name, self)

    def label(self, name: str) -> Label:
        for label in self.labels:
            if label.name == name:
                return label
        raise KeyError(
            f"no label {name!r} in this checkpoint; it knows {[label.name for label in self.labels]}"
        )

    def with_status(self, names: Iterable[str], status: Status) -> "Checkpoint":
        chosen = set(names)
        labels = tuple(replace(one, status=status) if one.name in chosen else one for one in self.labels)
        return replace(self, labels=labels)

    def renamed(self, sources: Mapping[str, str]) -> "Checkpoint":
        """With it told which labels their datasets know by another name: label -> that name.

        What is forgotten keeps its own: its name may be that of a temporary label now, of other images.
        """
        labels = tuple(
            one
            if one.status == "forgotten"
            else replace(one, renamed_from=sources.get(one.name, one.renamed_from))
            for one in self.labels
        )
        return replace(self, labels=labels, isolated=tuple(one.renamed(sources) for one in self.isolated))

    def to_bytes(self) -> bytes:
        """The main network as one safetensors file: an isolated one is a file of its own.

        Equal checkpoints give equal bytes.
        """
        tensors = {f"weights/{name}": tensor.contiguous() for name, tensor in self.weights.items()}
        tensors |= {f"fisher/{name}": tensor.contiguous() for name, tensor in (self.fisher or {}).items()}
        header = {
            "format": FORMAT,
            "spec": asdict(self.spec),
            "labels": [asdict(label) for label in self.labels],
        }
        # One metadata key only: the library writes several in no fixed order.
        return safetensors.torch.save(tensors, metadata={"palimpsest": json.dumps(header, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Checkpoint":
        """Raises NotACheckpoint when the bytes cannot be read."""
        header = _header(data)
        if header.get("format") != FORMAT:
            raise NotACheckpoint(
                f"checkpoint format {header.get('format')!r}; this code reads format {FORMAT}"
            )
        try:
            tensors = safetensors.torch.load(data)
            return cls(
                spec=_spec(header["spec"]),
                weights=_under("weights/", tensors),
                labels=tuple(Label(**label) for label in header["labels"]),
                fisher=_under("fisher/", tensors) or None,
            )
        except (SafetensorError, KeyError, TypeError) as error:
            raise NotACheckpoint(f"the checkpoint is not whole: {error!r}") from error


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


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensors[name] for name in sorted(tensors) if name.startswith(prefix)}
