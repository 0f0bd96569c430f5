"""The published decoder draws what the network draws, and carries nothing else."""

from dataclasses import replace

import numpy
import onnxruntime
import pytest
import torch

from tests.learning.tiny import CPU, NETWORKS, labels, run
from worker.learning.checkpoint import Checkpoint, Spec
from worker.learning.export import decoder_onnx, network_onnx
from worker.learning.networks import Architecture, blank, build, make_blank, with_weights
from worker.learning.networks.mlp import Mlp, MlpParams
from worker.learning.networks.network import Network
from worker.learning.slots import with_slots


def session(data: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def test_the_exported_decoder_draws_what_the_network_draws(learnt: Checkpoint) -> None:
    for checkpoint in (learnt, run("resize", "expand", learnt, labels(), share=0.5)):
        assert_draws_alike(decoder_onnx(checkpoint), build(checkpoint, CPU))


@pytest.mark.parametrize("architecture", sorted(NETWORKS))
def test_the_exported_decoder_chooses_the_component_of_a_mixture_as_the_network_does(
    architecture: str,
) -> None:
    start = with_slots(blank(NETWORKS[architecture], seed=0, pixels=64), ["a", "b"], "none", "permanent")
    weights = {name: tensor.clone() for name, tensor in start.weights.items()}
    weights["prior_weight"][1] = torch.tensor([0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0])
    weights["prior_mean"][1] = 3 * torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    checkpoint = replace(start, weights=weights)
    assert_draws_alike(decoder_onnx(checkpoint), build(checkpoint, CPU))


def assert_draws_alike(data: bytes, network: Network) -> None:
    network.requires_grad_(False)
    slots = torch.arange(64) % 2
    noise = network.prior_noise(slots, torch.Generator().manual_seed(0))
    expected = network.decode(network.sample_prior(noise, slots), slots).sigmoid().numpy()
    (images,) = session(data).run(["images"], {"noise": noise.numpy(), "slot": slots.numpy()})
    assert isinstance(images, numpy.ndarray)
    assert images.dtype == numpy.float32
    assert numpy.abs(images - expected).max() < 1e-5


class Scaled(Mlp):
    """An mlp with a parameter of the name that the factors of a hypernetwork have in the graph."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.get_submodule("decoder.0").register_parameter("scale", torch.nn.Parameter(torch.ones(())))


def test_a_parameter_called_scale_is_not_taken_for_the_factors_of_a_hypernetwork() -> None:
    architecture = Architecture("scaled", Scaled, MlpParams, "A package's.")
    small = {"encoder_widths": (5,), "decoder_widths": (5, 7), "latent": 2}
    start = make_blank(architecture, small, seed=0, pixels=16)
    checkpoint = with_slots(start, ["a", "b"], "none", "permanent")
    network = with_weights(architecture, checkpoint)
    assert_draws_alike(network_onnx(checkpoint, network), network)


def test_the_exported_bytes_depend_on_the_weights_alone(learnt: Checkpoint) -> None:
    assert decoder_onnx(learnt) == decoder_onnx(learnt)


def test_the_exported_decoder_carries_no_encoder(two_labels: Checkpoint) -> None:
    assert b"encoder" not in decoder_onnx(two_labels)
