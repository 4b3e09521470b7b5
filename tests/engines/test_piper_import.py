"""A Piper voice carried over to Coqui. How it sounds there is test_coqui's: the default engine is such a voice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from actors.errors import ConfigError, EngineLoadError
from actors.speech.piper import JOE

pytest.importorskip("TTS")
torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from actors.speech._coqui import checkpoint, piper_import  # noqa: E402
from actors.speech._coqui.piper_import import import_piper  # noqa: E402


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    """joe's files, to be tampered with."""
    source = JOE.locate()
    for suffix in ("", ".json"):
        shutil.copy(f"{source}{suffix}", tmp_path / f"voice.onnx{suffix}")
    return tmp_path / "voice.onnx"


def test_the_result_is_a_checkpoint_of_stock_coqui(voice: Path, tmp_path: Path) -> None:
    from TTS.config import load_config

    imported = import_piper(voice, tmp_path / "out")
    assert imported.folder == tmp_path / "out"
    assert imported.num_tensors == 350
    config = load_config(imported.folder / "config.json")
    assert (config.use_phonemes, config.phonemizer, config.phoneme_language) == (True, "espeak", "en-us")
    stock = checkpoint.build_vits(config)
    stock.load_checkpoint(config, str(imported.folder / "model.pth"), eval=True, strict=True)
    vocabulary = json.loads((tmp_path / "voice.onnx.json").read_text())["phoneme_id_map"]
    rows = {symbol: stock.text_encoder.emb.weight[i] for i, symbol in enumerate(stock.tokenizer.characters.vocab)}
    assert set(rows) == set(vocabulary)
    table = piper_import.read_export(voice).tensors["enc_p.emb.weight"]
    for symbol, (token,) in vocabulary.items():
        torch.testing.assert_close(rows[symbol], torch.from_numpy(table[token].copy()), rtol=0, atol=0)


def test_importing_twice_gives_the_same_weights(voice: Path, tmp_path: Path) -> None:
    one, other = (checkpoint.read_tensors(import_piper(voice, tmp_path / name).folder / "model.pth") for name in "ab")
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_an_existing_folder_is_left_alone(voice: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="must be new"):
        import_piper(voice, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("missing", ["voice.onnx", "voice.onnx.json"])
def test_both_files_are_needed(voice: Path, tmp_path: Path, missing: str) -> None:
    (tmp_path / missing).unlink()
    with pytest.raises(ConfigError, match=missing.replace(".", r"\.")):
        import_piper(voice, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_onnx_is_refused(voice: Path, tmp_path: Path) -> None:
    voice.write_bytes(b"no model at all")
    with pytest.raises(ConfigError, match="must be an ONNX file"):
        import_piper(voice, tmp_path / "out")


def test_symbols_of_several_letters_are_refused(voice: Path, tmp_path: Path) -> None:
    settings = json.loads(voice.with_name("voice.onnx.json").read_text())
    settings["phoneme_id_map"]["aɪ"] = [200]
    voice.with_name("voice.onnx.json").write_text(json.dumps(settings))
    with pytest.raises(EngineLoadError, match="found others: aɪ"):
        import_piper(voice, tmp_path / "out")


def test_several_speakers_are_refused(voice: Path, tmp_path: Path) -> None:
    model = onnx.load(str(voice))
    model.graph.node.append(onnx.helper.make_node("Gather", ["t", "sid"], ["g"], name="/emb_g/Gather"))
    onnx.save(model, str(voice))
    with pytest.raises(EngineLoadError, match="one speaker"):
        import_piper(voice, tmp_path / "out")


def test_a_missing_weight_is_named(voice: Path, tmp_path: Path) -> None:
    model = onnx.load(str(voice))
    _drop(model, "enc_p.proj.bias")
    onnx.save(model, str(voice))
    with pytest.raises(EngineLoadError, match=r"missing text_encoder\.proj\.bias"):
        import_piper(voice, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_weight_of_no_known_place_is_named(voice: Path, tmp_path: Path) -> None:
    model = onnx.load(str(voice))
    model.graph.initializer.append(onnx.helper.make_tensor("mystery", onnx.TensorProto.FLOAT, [4], [1.0] * 4))
    onnx.save(model, str(voice))
    with pytest.raises(EngineLoadError, match="no known place: mystery"):
        import_piper(voice, tmp_path / "out")


def test_a_weight_of_another_shape_is_named(voice: Path, tmp_path: Path) -> None:
    model = onnx.load(str(voice))
    _drop(model, "enc_p.proj.bias")
    model.graph.initializer.append(onnx.helper.make_tensor("enc_p.proj.bias", onnx.TensorProto.FLOAT, [4], [1.0] * 4))
    onnx.save(model, str(voice))
    with pytest.raises(EngineLoadError, match=r"text_encoder\.proj\.bias must have shape \(384,\)"):
        import_piper(voice, tmp_path / "out")


def _drop(model: onnx.ModelProto, name: str) -> None:
    kept = [tensor for tensor in model.graph.initializer if tensor.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
