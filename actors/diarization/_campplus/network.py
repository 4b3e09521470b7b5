"""CAM++ (Wang et al. 2023) as an ONNX graph: a convolutional head, then densely connected time delay layers with masks.

The graph takes pieces of at most ``MAX_FRAMES`` frames. The network also averages over segments of that length; in so
short a piece there is one, of which the average is that of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.diarization._campplus.features import NUM_MELS
from actors.hub.tensors import Tensors

if TYPE_CHECKING:
    import onnx

GRAPH_VERSION = 1
"""Part of the cache key. Raise it when the same weights would become another graph."""
MAX_FRAMES = 200
BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Number of layers and dilation of each dense block."""
EPSILON = 1e-5
OPSET = 17
IR_VERSION = 8


def write_network(tensors: Tensors, out: Path) -> None:
    """Write the graph with its weights: ``spectra`` (num_pieces, num_frames, NUM_MELS) → ``vectors``.

    Raises KeyError if the checkpoint is of another network.
    """
    import onnx

    onnx.save(_Builder(tensors).model(), str(out))


class _Builder:
    """Adds nodes one after another; each method returns the name of its output."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, np.ndarray] = {}

    def model(self) -> onnx.ModelProto:
        from onnx import TensorProto, helper, numpy_helper

        vectors = self._network("spectra")
        spectra = helper.make_tensor_value_info("spectra", TensorProto.FLOAT, ["pieces", "frames", NUM_MELS])
        output = helper.make_tensor_value_info(vectors, TensorProto.FLOAT, ["pieces", "dim"])
        weights = [numpy_helper.from_array(np.ascontiguousarray(each), name) for name, each in self._weights.items()]
        graph = helper.make_graph(self._nodes, "campplus", [spectra], [output], weights)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="raydub"
        )

    def _network(self, spectra: str) -> str:
        bands = self._add("Transpose", spectra, perm=[0, 2, 1])
        found = self._head(self._add("Unsqueeze", bands, self._constant("channel", [1])))
        found = self._conv(found, "xvector.tdnn.linear", strides=[2], pads=[2, 2])
        found = self._relu(self._norm(found, "xvector.tdnn.nonlinear.batchnorm"))
        for number, (num_layers, dilation) in enumerate(BLOCKS, 1):
            for layer in range(1, num_layers + 1):
                found = self._add(
                    "Concat", found, self._layer(found, f"xvector.block{number}.tdnnd{layer}", dilation), axis=1
                )
            found = self._relu(self._norm(found, f"xvector.transit{number}.nonlinear.batchnorm"))
            found = self._conv(found, f"xvector.transit{number}.linear")
        found = self._statistics(self._relu(self._norm(found, "xvector.out_nonlinear.batchnorm")))
        found = self._norm(self._conv(found, "xvector.dense.linear"), "xvector.dense.nonlinear.batchnorm")
        return self._add("Squeeze", found, self._constant("last", [-1]), name="vectors")

    def _head(self, found: str) -> str:
        """Residual blocks over bands and time; the bands of all channels become channels."""
        found = self._relu(self._norm(self._conv(found, "head.conv1", pads=[1] * 4), "head.bn1"))
        for layer in ("layer1", "layer2"):
            for index, stride in enumerate((2, 1)):
                found = self._residual(found, f"head.{layer}.{index}", stride)
        found = self._conv(found, "head.conv2", pads=[1] * 4, strides=[2, 1])
        found = self._relu(self._norm(found, "head.bn2"))
        return self._add("Reshape", found, self._constant("joined", [0, 32 * NUM_MELS // 8, -1]))

    def _residual(self, found: str, name: str, stride: int) -> str:
        inner = self._conv(found, f"{name}.conv1", pads=[1] * 4, strides=[stride, 1])
        inner = self._relu(self._norm(inner, f"{name}.bn1"))
        inner = self._norm(self._conv(inner, f"{name}.conv2", pads=[1] * 4), f"{name}.bn2")
        if stride != 1:
            found = self._norm(self._conv(found, f"{name}.shortcut.0", strides=[stride, 1]), f"{name}.shortcut.1")
        return self._relu(self._add("Add", inner, found))

    def _layer(self, found: str, name: str, dilation: int) -> str:
        """A time delay layer, masked by the piece as a whole."""
        found = self._relu(self._norm(found, f"{name}.nonlinear1.batchnorm"))
        found = self._conv(found, f"{name}.linear1")
        found = self._relu(self._norm(found, f"{name}.nonlinear2.batchnorm"))
        local = self._conv(found, f"{name}.cam_layer.linear_local", dilations=[dilation], pads=[dilation] * 2)
        context = self._add("ReduceMean", found, axes=[-1], keepdims=1)
        context = self._add("Add", context, context)  # the piece, and its only segment
        context = self._relu(self._conv(context, f"{name}.cam_layer.linear1"))
        mask = self._add("Sigmoid", self._conv(context, f"{name}.cam_layer.linear2"))
        return self._add("Mul", local, mask)

    def _statistics(self, found: str) -> str:
        """Mean and standard deviation over time, the latter by the unbiased estimate."""
        mean = self._add("ReduceMean", found, axes=[-1], keepdims=1)
        difference = self._add("Sub", found, mean)
        squares = self._add(
            "ReduceSum", self._add("Mul", difference, difference), self._constant("last", [-1]), keepdims=1
        )
        shape = self._add("Shape", found, start=2)
        num_frames = self._add("Cast", shape, to=1)
        freedom = self._add("Sub", num_frames, self._constant("one", np.ones(1, np.float32)))
        deviation = self._add("Sqrt", self._add("Div", squares, freedom))
        return self._add("Concat", mean, deviation, axis=1)

    def _conv(self, found: str, name: str, **attributes: Any) -> str:
        inputs = [self._weight(f"{name}.weight")]
        if f"{name}.bias" in self._tensors:
            inputs.append(self._weight(f"{name}.bias"))
        return self._add("Conv", found, *inputs, **attributes)

    def _norm(self, found: str, name: str) -> str:
        width = len(self._tensors[f"{name}.running_mean"])
        if f"{name}.weight" in self._tensors:
            scale, shift = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        else:
            scale = self._constant(f"{name}.weight", np.ones(width, np.float32))
            shift = self._constant(f"{name}.bias", np.zeros(width, np.float32))
        mean, variance = self._weight(f"{name}.running_mean"), self._weight(f"{name}.running_var")
        return self._add("BatchNormalization", found, scale, shift, mean, variance, epsilon=EPSILON)

    def _relu(self, found: str) -> str:
        return self._add("Relu", found)

    def _weight(self, name: str) -> str:
        return self._constant(name, self._tensors[name])

    def _constant(self, name: str, values: Sequence[int] | np.ndarray) -> str:
        self._weights.setdefault(name, np.asarray(values))
        return name

    def _add(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        from onnx import helper

        output = name or f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output
