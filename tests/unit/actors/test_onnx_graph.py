"""Graphs of a few nodes, cut and run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from actors import onnx_graph, weights
from actors.errors import EngineLoadError
from actors.onnx_graph import Cut, Half, Tensor, cut_model, extract, find_rounded_durations
from actors.onnx_session import make_session


@pytest.fixture
def speech_model() -> onnx.ModelProto:
    """Says each token ×10 for round(token · 1.5 / speed) frames: natural durations are in ``natural_inner``."""

    def constant(name: str, values: object, dtype: type) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(values, dtype), name)

    nodes = [
        helper.make_node("Cast", ["tokens"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "pace"], ["natural_inner"]),
        helper.make_node("Div", ["natural_inner", "speed"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["rounded"]),
        helper.make_node("Clip", ["rounded", "one"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["frames_inner"], to=TensorProto.INT64),
        helper.make_node("CumSum", ["frames_inner", "axis"], ["ends"]),
        helper.make_node("Mul", ["floats", "ten"], ["loud"]),
        helper.make_node("If", ["always"], ["spoken"], then_branch=_branch("loud"), else_branch=_branch("floats")),
        helper.make_node("Mul", ["spoken", "unused_ten"], ["never"]),
    ]
    graph = helper.make_graph(
        nodes,
        "speech",
        [
            helper.make_tensor_value_info("tokens", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("speed", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("ends", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("spoken", TensorProto.FLOAT, ["n"]),
        ],
        [
            constant("pace", 1.5, np.float32),
            constant("one", 1.0, np.float32),
            constant("ten", 10.0, np.float32),
            constant("unused_ten", 10.0, np.float32),
            constant("axis", 0, np.int64),
            constant("always", True, np.bool_),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _branch(outer: str) -> onnx.GraphProto:
    """Reads a tensor of the graph around it, which no node input names."""
    out = helper.make_tensor_value_info(f"{outer}_out", TensorProto.FLOAT, ["n"])
    return helper.make_graph([helper.make_node("Identity", [outer], [out.name])], f"{outer}_branch", [], [out])


def run(path: Path, **inputs: npt.NDArray[np.generic]) -> list[list[float]]:
    return [out.tolist() for out in make_session(path, threads=1).run(None, inputs)]


@pytest.fixture
def halves(speech_model: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> onnx_graph.CutModel:
    monkeypatch.setenv("RAYDUB_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "speech.onnx"
    onnx.save(speech_model, str(path))
    return cut_model(path, weights.file_sha256(path), "test", lambda model: find_rounded_durations(model, ("n",)))


def test_the_halves_predict_and_speak(halves: onnx_graph.CutModel) -> None:
    tokens = np.array([1, 2, 4], np.int64)
    assert run(halves.durations, tokens=tokens) == [[1.5, 3.0, 6.0]]
    assert run(halves.synthesis, tokens=tokens, frames=np.array([5, 1, 2], np.int64)) == [[5, 6, 8], [10, 20, 40]]


def test_a_half_holds_what_it_needs_and_no_more(halves: onnx_graph.CutModel) -> None:
    durations, synthesis = (onnx.load(str(path)).graph for path in (halves.durations, halves.synthesis))
    assert [put.name for put in durations.input] == ["tokens"]
    assert [put.name for put in synthesis.input] == ["tokens", "frames"]
    assert [tensor.name for tensor in durations.initializer] == ["pace"]
    assert {tensor.name for tensor in synthesis.initializer} == {"ten", "axis", "always"}


def test_a_model_is_cut_once(speech_model: onnx.ModelProto, halves: onnx_graph.CutModel, tmp_path: Path) -> None:
    def find_cut(model: onnx.ModelProto) -> Cut:
        raise AssertionError("the cache holds this cut")

    path = tmp_path / "speech.onnx"
    assert cut_model(path, weights.file_sha256(path), "test", find_cut) == halves


def test_another_kind_of_cut_does_not_find_the_first(halves: onnx_graph.CutModel, tmp_path: Path) -> None:
    def find_cut(model: onnx.ModelProto) -> Cut:
        raise EngineLoadError("not of this kind")

    path = tmp_path / "speech.onnx"
    with pytest.raises(EngineLoadError, match="kind"):
        cut_model(path, weights.file_sha256(path), "other", find_cut)


def test_initializers_listed_as_inputs_stay_fixed(speech_model: onnx.ModelProto) -> None:
    speech_model.graph.input.append(helper.make_tensor_value_info("pace", TensorProto.FLOAT, []))
    natural = Tensor(inner="natural_inner", name="natural", dtype="float32", shape=("n",))
    part = extract(speech_model, Half(outputs=(natural,)))
    assert [put.name for put in part.graph.input] == ["tokens"]


def test_a_graph_of_another_kind_is_refused(speech_model: onnx.ModelProto) -> None:
    (node,) = [node for node in speech_model.graph.node if node.op_type == "Round"]
    node.op_type = "Floor"
    with pytest.raises(EngineLoadError, match="Round"):
        find_rounded_durations(speech_model, ("n",))


def test_a_device_that_is_not_there_is_named(halves: onnx_graph.CutModel) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA is there")
    with pytest.raises(EngineLoadError, match="cuda"):
        make_session(halves.durations, threads=1, device="cuda")
