"""Export a version's decoder as an ONNX graph from noise and a label slot to a mean image.

The graph is built node by node rather than traced. The code for it is short, takes milliseconds, and its
bytes depend on the weights alone. The weights' names and shapes decide the nodes: a 2-d weight is a dense
layer, a 4-d weight is a nearest-neighbour upsampling by two and a convolution. A layer whose weights a
hypernetwork makes has tables of its factors and shifts.
"""

import math
from collections.abc import Mapping

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.mixtures import component_edges
from worker.learning.networks import frozen
from worker.learning.networks.hyper import Hyper
from worker.learning.networks.network import Network, noise_size

OPSET = 17
IR_VERSION = 8
NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def decoder_onnx(checkpoint: Checkpoint) -> bytes:
    """Return the main network's decoder as the bytes of an ONNX model.

    Inputs: noise float32 [n, noise_size], standard normal, and slot int64 [n]. Output: images float32
    [n, pixels] in [0, 1]. The label priors p(z | c) are part of the graph: see `Network.sample_prior`.
    """
    return network_onnx(checkpoint, frozen(checkpoint, torch.device("cpu")))


def network_onnx(checkpoint: Checkpoint, network: Network) -> bytes:
    """Return the decoder of the checkpoint's network, as `decoder_onnx` does.

    The architecture of the network need not have been added to the others.
    """
    spec, weights, decoder = checkpoint.spec, checkpoint.weights, _decoder_weights(checkpoint, network)
    layers = len(spec.decoder_widths) + 1
    constants: dict[str, list[int]] = {"last_axis": [-1], "flat": [0, spec.pixels]}
    priors = {
        "prior_mean": weights["prior_mean"].flatten(0, 1),
        "prior_scale": weights["prior_scale"].flatten(0, 1),
    }
    nodes = _prior_nodes("slot", "noise")
    if spec.components > 1:
        priors["prior_edges"] = component_edges(weights["prior_weight"])
        constants |= {"components": [spec.components], "noise_parts": [spec.latent, 1]}
        nodes = [*_component_nodes(), *_prior_nodes("component", "noise_of_latent")]
    for index in range(layers):
        nodes += _layer_nodes(
            index, decoder, constants, generated=isinstance(network, Hyper), last=index == layers - 1
        )
    initializers = [
        numpy_helper.from_array(tensor.contiguous().numpy(), name)
        for name, tensor in (priors | decoder).items()
    ]
    for name, values in constants.items():
        initializers.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
    initializers.append(helper.make_tensor("twice", TensorProto.FLOAT, [4], [1, 1, 2, 2]))
    graph = helper.make_graph(
        nodes,
        "palimpsest_decoder",
        [
            helper.make_tensor_value_info(
                "noise", TensorProto.FLOAT, ["n", noise_size(spec.latent, spec.components)]
            ),
            helper.make_tensor_value_info("slot", TensorProto.INT64, ["n"]),
        ],
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", spec.pixels])],
        initializers,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="palimpsest",
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


@torch.no_grad()
def _decoder_weights(checkpoint: Checkpoint, network: Network) -> dict[str, Tensor]:
    """Return the decoder's weights, by name, as the graph holds them.

    Where a hypernetwork makes the weights of each label, the graph has the factors and shifts that it makes,
    in tables with a row for every slot, and not the hypernetwork: that is fewer numbers and less work for
    each draw. The weights themselves would be a matrix for every slot.
    """
    weights = checkpoint.weights
    if not isinstance(network, Hyper):
        return {name: weights[name] for name in sorted(weights) if name.startswith("decoder.")}
    factors = network.make_weights(network.embeddings(torch.arange(checkpoint.spec.slots)))
    found: dict[str, Tensor] = {}
    for name, _ in network.generated_layers():
        found |= {f"{name}.{part}": weights[f"{name}.{part}"] for part in ("weight", "bias")}
        found |= {f"{name}.{part}": table for part, table in factors[name]._asdict().items()}
    return {name: found[name] for name in sorted(found) if name.startswith("decoder.")}


def _component_nodes() -> list[onnx.NodeProto]:
    """Make the nodes that choose a row of the priors' tables: slot * components + edges below the number."""
    return [
        helper.make_node(
            "Split", ["noise", "noise_parts"], ["noise_of_latent", "noise_of_component"], axis=1
        ),
        helper.make_node("Gather", ["prior_edges", "slot"], ["edges"]),
        helper.make_node("Less", ["edges", "noise_of_component"], ["is_below"]),
        helper.make_node("Cast", ["is_below"], ["below"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["below", "last_axis"], ["place"], keepdims=0),
        helper.make_node("Mul", ["slot", "components"], ["first_component"]),
        helper.make_node("Add", ["first_component", "place"], ["component"]),
    ]


def _prior_nodes(row: str, noise: str) -> list[onnx.NodeProto]:
    """Make the nodes that compute z = mean + scale @ noise, hidden.0, from a row of the priors' tables."""
    return [
        helper.make_node("Gather", ["prior_mean", row], ["mean"]),
        helper.make_node("Gather", ["prior_scale", row], ["scale"]),
        helper.make_node("Unsqueeze", [noise, "last_axis"], ["noise_column"]),
        helper.make_node("MatMul", ["scale", "noise_column"], ["spread_column"]),
        helper.make_node("Squeeze", ["spread_column", "last_axis"], ["spread"]),
        helper.make_node("Add", ["mean", "spread"], ["hidden.0"]),
    ]


def _layer_nodes(
    index: int, weights: Mapping[str, Tensor], constants: dict[str, list[int]], *, generated: bool, last: bool
) -> list[onnx.NodeProto]:
    """Make the nodes of one decoder layer, from hidden.{index} to hidden.{index + 1}, or to images.

    constants: the integer constants of the graph, to which those of this layer are added.
    generated: whether a hypernetwork makes the weights of the layer.
    """
    layer, inputs, nodes = f"decoder.{index}", f"hidden.{index}", []
    parameters = [f"{layer}.weight", f"{layer}.bias"]
    if weights[f"{layer}.weight"].dim() == 2:
        nodes.append(helper.make_node("Gemm", [inputs, *parameters], [f"{layer}.sum"], transB=1))
    else:
        # The first convolution follows a dense layer: reshape the vector to channels.
        if weights[f"decoder.{index - 1}.weight"].dim() == 2:
            channels = weights[f"{layer}.weight"].shape[1]
            side = math.isqrt(len(weights[f"decoder.{index - 1}.bias"]) // channels)
            constants[f"{layer}.shape"] = [0, channels, side, side]
            nodes.append(helper.make_node("Reshape", [inputs, f"{layer}.shape"], [f"{layer}.channels"]))
            inputs = f"{layer}.channels"
        nodes.append(helper.make_node("Resize", [inputs, "", "twice"], [f"{layer}.large"], **NEAREST))
        convolved = [f"{layer}.large", *parameters]
        nodes.append(helper.make_node("Conv", convolved, [f"{layer}.sum"], pads=[1] * 4))
    preactivation = f"{layer}.sum"
    if generated:  # s_c * (W x + b) + shift, see networks/hyper.py
        nodes.append(helper.make_node("Gather", [f"{layer}.scale", "slot"], [f"{layer}.factor"]))
        nodes.append(helper.make_node("Mul", [preactivation, f"{layer}.factor"], [f"{layer}.scaled"]))
        nodes.append(helper.make_node("Gather", [f"{layer}.shift", "slot"], [f"{layer}.added"]))
        nodes.append(helper.make_node("Add", [f"{layer}.scaled", f"{layer}.added"], [f"{layer}.out"]))
        preactivation = f"{layer}.out"
    if f"{layer}.label" in weights:
        nodes.append(helper.make_node("Gather", [f"{layer}.label", "slot"], [f"{layer}.of_label"]))
        nodes.append(helper.make_node("Add", [preactivation, f"{layer}.of_label"], [f"{layer}.out"]))
        preactivation = f"{layer}.out"
    if last:
        nodes.append(helper.make_node("Sigmoid", [preactivation], ["drawn"]))
        nodes.append(helper.make_node("Reshape", ["drawn", "flat"], ["images"]))
    else:
        nodes.append(helper.make_node("Sigmoid", [preactivation], [f"{layer}.gate"]))
        nodes.append(helper.make_node("Mul", [preactivation, f"{layer}.gate"], [f"hidden.{index + 1}"]))
    return nodes
