"""The published decoder draws what the network draws, and carries nothing else."""

import numpy
import onnxruntime
import torch

from tests.learning.tiny import CPU, labels, run
from worker.learning.checkpoint import Checkpoint
from worker.learning.export import decoder_onnx
from worker.learning.networks import build


def session(data: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def test_the_exported_decoder_draws_what_the_network_draws(learnt: Checkpoint) -> None:
    for checkpoint in (learnt, run("resize", "expand", learnt, labels(), share=0.5)):
        network = build(checkpoint, CPU).requires_grad_(False)
        slots = torch.arange(64) % 2
        noise = network.prior_noise(slots, torch.Generator().manual_seed(0))
        expected = network.decode(network.sample_prior(noise, slots), slots).sigmoid().numpy()
        inputs = {"noise": noise.numpy(), "slot": slots.numpy()}
        (images,) = session(decoder_onnx(checkpoint)).run(["images"], inputs)
        assert isinstance(images, numpy.ndarray)
        assert images.dtype == numpy.float32
        assert numpy.abs(images - expected).max() < 1e-5


def test_the_exported_bytes_depend_on_the_weights_alone(learnt: Checkpoint) -> None:
    assert decoder_onnx(learnt) == decoder_onnx(learnt)


def test_the_exported_decoder_carries_no_encoder(two_labels: Checkpoint) -> None:
    assert b"encoder" not in decoder_onnx(two_labels)
