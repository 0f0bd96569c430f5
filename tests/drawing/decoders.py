"""Small decoders as versions have them, built by hand: slot s draws sigmoid(z W + b_s) for the noise z."""

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper


def decoder(slots: int = 3, *, latent: int = 4, pixels: int = 784, seed: int = 0) -> bytes:
    """Return a decoder whose images differ between slots and between noises."""
    numbers = np.random.default_rng(seed)
    weight = numbers.normal(size=(latent, pixels)).astype(np.float32)
    bias = numbers.normal(size=(slots, pixels)).astype(np.float32)
    return model(
        [
            helper.make_node("MatMul", ["noise", "weight"], ["projected"]),
            helper.make_node("Gather", ["bias", "slot"], ["of_slot"]),
            helper.make_node("Add", ["projected", "of_slot"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["images"]),
        ],
        {"weight": weight, "bias": bias},
        latent=latent,
        pixels=pixels,
    )


def constant_decoder(value: float, *, pixels: int = 784) -> bytes:
    """Return a decoder that draws the same grey for every slot and noise."""
    return model(
        [
            helper.make_node("MatMul", ["noise", "zero"], ["nothing"]),
            helper.make_node("Gather", ["grey", "slot"], ["of_slot"]),
            helper.make_node("Add", ["nothing", "of_slot"], ["images"]),
        ],
        {
            "zero": np.zeros((4, pixels), np.float32),
            "grey": np.full((3, pixels), value, np.float32),
        },
        latent=4,
        pixels=pixels,
    )


def mixing_decoder(*, latent: int = 4, pixels: int = 784) -> bytes:
    """Return a decoder that adds to every image the mean noise of its batch, as no published one does."""
    weight = np.random.default_rng(0).normal(size=(latent, pixels)).astype(np.float32)
    return model(
        [
            helper.make_node("ReduceMean", ["noise"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Add", ["noise", "mean"], ["mixed"]),
            helper.make_node("MatMul", ["mixed", "weight"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["images"]),
        ],
        {"weight": weight},
        latent=latent,
        pixels=pixels,
    )


def model(nodes: list[NodeProto], weights: dict[str, np.ndarray], *, latent: int, pixels: int) -> bytes:
    """Return an ONNX file with the inputs and the output that every decoder of a version has."""
    graph = helper.make_graph(
        nodes,
        "decoder",
        [
            helper.make_tensor_value_info("noise", TensorProto.FLOAT, ["n", latent]),
            helper.make_tensor_value_info("slot", TensorProto.INT64, ["n"]),
        ],
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", pixels])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())
