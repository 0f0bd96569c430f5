import numpy
import onnxruntime
import torch

from tests.learning.tiny import asked, run
from worker.learning.export import decoder_onnx
from worker.learning.networks import build


def session(data: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def test_the_exported_decoder_draws_what_the_network_draws(learnt):
    for checkpoint in (learnt, run("resize", "expand", learnt, asked(), share=0.5)):
        network = build(checkpoint, torch.device("cpu")).requires_grad_(False)
        slots = torch.arange(64) % 2
        noise = network.noise(slots, torch.Generator().manual_seed(0))
        expected = network.decode(network.sample_prior(noise, slots), slots).sigmoid().numpy()
        inputs = {"noise": noise.numpy(), "slot": slots.numpy()}
        (images,) = session(decoder_onnx(checkpoint)).run(["images"], inputs)
        assert images.dtype == numpy.float32
        assert numpy.abs(images - expected).max() < 1e-5


def test_the_exported_bytes_depend_on_the_weights_alone(learnt):
    assert decoder_onnx(learnt) == decoder_onnx(learnt)


def test_the_exported_decoder_carries_no_encoder(two_labels):
    assert b"encoder" not in decoder_onnx(two_labels)
