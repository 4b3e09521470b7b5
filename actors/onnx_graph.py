"""Cutting the ONNX graph of a speech model in two at its durations.

The cheap half predicts how long each token lasts, the expensive half speaks with the durations it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from actors import weights
from actors.errors import EngineLoadError
from actors.onnx_session import make_session

if TYPE_CHECKING:
    import onnx
    import onnxruntime

CUT_VERSION = 1
"""Part of the cache key. Raise it when the same model would be cut differently."""

Dim: TypeAlias = int | str | None
"""A tensor's extent along an axis: fixed, named, or unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An inner tensor of a graph that becomes an input or output under its own name."""

    inner: str
    name: str
    dtype: Literal["float32", "int64"]
    shape: tuple[Dim, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """The part of a graph that computes ``outputs``, taking ``inputs`` as given.

    The graph's own inputs stay inputs where they are still needed. No ``outputs`` means the graph's own.
    """

    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The two halves of a graph."""

    durations: Half
    synthesis: Half


@dataclass(frozen=True, slots=True, kw_only=True)
class CutSessions:
    """Both halves, ready to run."""

    durations: onnxruntime.InferenceSession
    synthesis: onnxruntime.InferenceSession


@dataclass(frozen=True, slots=True, kw_only=True)
class CutModel:
    """Both halves as files."""

    durations: Path
    synthesis: Path

    def open(self, *, threads: int, device: Literal["cpu", "cuda"] = "cpu") -> CutSessions:
        """Raises EngineLoadError."""
        return CutSessions(
            durations=make_session(self.durations, threads=threads, device=device),
            synthesis=make_session(self.synthesis, threads=threads, device=device),
        )


def cut_model(model: Path, sha256: str, kind: str, find_cut: Callable[[onnx.ModelProto], Cut]) -> CutModel:
    """Cut a model, once per node: the cache's key is its ``sha256`` and ``kind``, the name of ``find_cut``.

    Raises EngineLoadError, from ``find_cut`` if the graph is not of the kind it knows.
    """

    def writer(choose: Callable[[Cut], Half]) -> Callable[[Path], None]:
        def write(out: Path) -> None:
            import onnx

            whole = onnx.load(str(model))
            onnx.save(extract(whole, choose(find_cut(whole))), str(out))

        return write

    folder = f"{sha256[:16]}/{kind}-{CUT_VERSION}"
    return CutModel(
        durations=weights.derived(f"{folder}/durations.onnx", writer(lambda cut: cut.durations)),
        synthesis=weights.derived(f"{folder}/synthesis.onnx", writer(lambda cut: cut.synthesis)),
    )


def extract(model: onnx.ModelProto, half: Half) -> onnx.ModelProto:
    """A model of the nodes that ``half`` needs, in their order."""
    from onnx import helper

    graph = model.graph
    wanted = [tensor.inner for tensor in half.outputs] or [value.name for value in graph.output]
    given = {tensor.inner for tensor in half.inputs}
    nodes = needed_nodes(graph, wanted, given)
    read = {name for node in nodes for name in _reads(node)}
    initializers = [tensor for tensor in graph.initializer if tensor.name in read]
    # Old exporters list initializers among the inputs too.
    fixed = {tensor.name for tensor in initializers}
    inputs = [value for value in graph.input if value.name in read - fixed]
    # Identity gives a tensor its new name without touching the nodes, or graphs nested in them, that read it.
    renamed_in = [helper.make_node("Identity", [tensor.name], [tensor.inner]) for tensor in half.inputs]
    renamed_out = [helper.make_node("Identity", [tensor.inner], [tensor.name]) for tensor in half.outputs]
    part = helper.make_graph(
        [*renamed_in, *nodes, *renamed_out],
        graph.name,
        [*inputs, *map(_value_info, half.inputs)],
        [_value_info(tensor) for tensor in half.outputs] or list(graph.output),
        initializers,
    )
    return helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)


def find_rounded_durations(model: onnx.ModelProto, shape: tuple[Dim, ...]) -> Cut:
    """The cut of a graph that computes ``Cast(Clip(Round(natural / speed)))``, as exports of Kokoro's kind do.

    ``shape`` is that of the durations, with or without a batch axis.
    """
    graph = model.graph
    divide = only([node for node in graph.node if node.op_type == "Div" and "speed" in node.input], "Div by speed")
    natural = next(name for name in divide.input if name != "speed")
    frames = divide.output[0]
    for op_type in ("Round", "Clip", "Cast"):
        frames = only(
            [node for node in graph.node if node.op_type == op_type and frames in node.input], f"{op_type} of {frames}"
        ).output[0]
    return Cut(
        durations=Half(outputs=(Tensor(inner=natural, name="natural", dtype="float32", shape=shape),)),
        synthesis=Half(inputs=(Tensor(inner=frames, name="frames", dtype="int64", shape=shape),)),
    )


def needed_nodes(graph: onnx.GraphProto, wanted: Iterable[str], given: set[str]) -> list[onnx.NodeProto]:
    """The nodes that ``wanted`` depends on, up to ``given``, in the graph's order."""
    producer = {name: index for index, node in enumerate(graph.node) for name in node.output}
    kept: set[int] = set()
    pending = [name for name in wanted if name not in given]
    while pending:
        index = producer.get(pending.pop())
        if index is not None and index not in kept:
            kept.add(index)
            pending += [name for name in _reads(graph.node[index]) if name not in given]
    return [graph.node[index] for index in sorted(kept)]


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads, including those that its nested graphs (If, Loop) take from outside."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _reads(inner)


def only(nodes: Sequence[onnx.NodeProto], what: str) -> onnx.NodeProto:
    """The single node of a sequence. Raises EngineLoadError for none or several."""
    if len(nodes) != 1:
        raise EngineLoadError(
            f"the speech model must have exactly one {what} to cut its durations at, found {len(nodes)}; "
            "this engine cannot speak that model"
        )
    return nodes[0]


def _value_info(tensor: Tensor) -> onnx.ValueInfoProto:
    from onnx import TensorProto, helper

    dtype = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}[tensor.dtype]
    return helper.make_tensor_value_info(tensor.name, dtype, tensor.shape)
