"""Strangers' media is read in processes that may die: whatever they do there is one failed input."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import soundfile

from actors.errors import MediaError
from cluster.media import decode, sandbox, sandbox_server
from cluster.media.config import MediaConfig
from cluster.media.decode import Damage
from cluster.media.mux import SourceText
from cluster.media.probe import MediaInfo, probe
from tests.integration.dubbing import dub_all
from tests.media import AudioSpec, VideoSpec, damage, make_media, make_short_talk, tone
from tests.standins import hostile_media


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox server of ``tests.standins.hostile_media``."""
    monkeypatch.setattr(sandbox_server, "PROGRAM", hostile_media.PROGRAM)
    monkeypatch.setattr(sandbox_server, "_server", sandbox_server.Server())


def sound(path: Path, duration_s: float = 3.0) -> Path:
    return make_media(path, audio=[AudioSpec(samples=tone(duration_s), codec="flac")])


def listen(path: Path, **limits: float) -> np.ndarray:
    config = MediaConfig.model_validate(limits)
    info = sandbox.inspect(path, config)
    return np.concatenate(list(sandbox.decode_audio(info, info.audio[0], hz=16_000, channels="mono", config=config)))


def test_the_sandbox_tells_what_decoding_here_does(tmp_path: Path) -> None:
    path = make_media(tmp_path / "bad.ts", audio=[AudioSpec(samples=tone(10.0), codec="mp2")])
    damage(path, 0.4, 0.45)
    config = MediaConfig()
    info = sandbox.inspect(path, config)
    assert info == probe(path, config)
    there, here = Damage(), Damage()
    for channels in ("mono", 2):
        blocks = sandbox.decode_audio(info, info.audio[0], hz=48_000, channels=channels, damage=there)  # type: ignore[arg-type]
        same = decode.decode_audio(info, info.audio[0], hz=48_000, channels=channels, damage=here)  # type: ignore[arg-type]
        for one, other in zip(blocks, same, strict=True):
            np.testing.assert_array_equal(one, other)
    assert there
    assert there.silence_s == pytest.approx(here.silence_s / 2)  # that of the second decoding alone


@pytest.mark.parametrize(
    ("name", "limits", "why"),
    [
        ("crash", {}, "SIGSEGV"),
        ("hang", {"max_block_wall_s": 1}, "media.max_block_wall_s"),
        ("compute", {"max_open_cpu_s": 1, "max_cpu_ratio": 0.1}, "media.max_cpu_ratio"),
        ("grow", {"max_open_bytes": 2**26}, "media.max_open_bytes"),
    ],
)
@pytest.mark.usefixtures("hostile")
def test_a_decoder_that_fails_costs_its_input_only(
    tmp_path: Path, name: str, limits: dict[str, float], why: str
) -> None:
    good, bad = sound(tmp_path / "good.mka"), sound(tmp_path / f"{name}.mka")
    with pytest.raises(MediaError, match=why) as caught:
        listen(bad, **limits)
    assert str(bad) in caught.value.message
    assert len(listen(good)) == 3 * 16_000


@pytest.mark.usefixtures("hostile")
def test_a_decoder_has_no_rights_beyond_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYDUB_SECRET", "nobody's business")
    (tmp_path / "secret").write_bytes(b"of somebody else")
    with pytest.raises(MediaError) as caught:
        listen(sound(tmp_path / "tell.mka"))
    rights = json.loads(caught.value.message)
    assert set(rights["environment"]) <= {"PYTHONPATH", "OPENBLAS_NUM_THREADS", "LC_CTYPE", "LD_LIBRARY_PATH"}
    assert rights["writes"] is False
    may_leave = subprocess.run([sys.executable, "-c", LEAVE], check=False).returncode == 0
    assert rights["network"] is not may_leave or not rights["network"]
    has_landlock = subprocess.run([sys.executable, "-c", RESTRICT], check=False).returncode == 0
    assert (rights["reads"], rights["runs"]) == (not has_landlock, not has_landlock)


LEAVE = """
import ctypes, os, sys
unshare = ctypes.CDLL(None).unshare
sys.exit(0 if unshare(0x40000000) == 0 or (os.geteuid() and unshare(0x50000000) == 0) else 1)
"""


RESTRICT = """
import ctypes, sys
sys.exit(0 if ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) > 0 else 1)
"""


@pytest.mark.parametrize("step", ["probe", "plan_output", "mux", "extract"])
@pytest.mark.parametrize("harm", ["hang", "doze"])
@pytest.mark.usefixtures("hostile")
def test_a_step_that_stands_still_costs_its_input_only(tmp_path: Path, step: str, harm: str) -> None:
    good, bad = sound(tmp_path / "good.mka"), sound(tmp_path / f"{step}-{harm}.mka")
    config = MediaConfig(max_stall_s=1)
    with pytest.raises(MediaError, match=r"stand still.*media\.max_stall_s") as caught:
        walk(bad, tmp_path, config)
    assert str(bad) in caught.value.message
    assert "\n" not in caught.value.message
    assert walk(good, tmp_path, MediaConfig()) == {"out.mka", "one.mka", good.name, bad.name}


def walk(path: Path, folder: Path, config: MediaConfig) -> set[str]:
    """Every step on a file that is not decoding. Returns the names of what is there then."""
    info = sandbox.inspect(path, config)
    sandbox.plan_output(info, config)
    source = SourceText(track=info.audio[0], language="en")
    sandbox.mux(info, [], folder / "out.mka", source=source, config=config)
    sandbox.extract(info, folder / "one.mka", info.audio[0].index, with_video=False, config=config)
    return {each.name for each in folder.iterdir()}


@pytest.mark.usefixtures("hostile")
def test_a_live_stream_that_stands_still_ends(tmp_path: Path) -> None:
    source = make_media(tmp_path / "hang.mkv", audio=[AudioSpec(samples=tone(3.0), codec="flac")])
    config = MediaConfig(max_block_wall_s=1)
    info = sandbox.inspect(source, config)
    with pytest.raises(MediaError, match=r"hang\.mkv.*media\.max_block_wall_s"):
        stream(tmp_path / "hls", info, config)


@pytest.mark.usefixtures("hostile")
def test_an_error_that_nobody_foresaw_costs_its_input_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(MediaError, match=r"its process failed with ZeroDivisionError: division by zero; convert it$"):
        sandbox.inspect(sound(tmp_path / "probe-err.mka"), MediaConfig())
    assert "Traceback" in caplog.text


def test_a_segment_that_claims_to_end_beyond_any_file_is_read(tmp_path: Path) -> None:
    path = sound(tmp_path / "a.mka")
    data = bytearray(path.read_bytes())
    at = data.index(bytes.fromhex("18538067")) + 4  # the segment's size follows
    assert data[at] == 1, "eight bytes"
    data[at : at + 8] = b"\x01" + b"\xff" * 6 + b"\xfe"
    path.write_bytes(data)
    assert len(listen(path)) == 3 * 16_000


def stream(folder: Path, info: MediaInfo, config: MediaConfig | None = None) -> None:
    with sandbox.SandboxedHls(folder, info, config or MediaConfig(), num_channels=2, bits_per_s=64_000) as writer:
        for _ in range(3):
            writer.write(tone(1.0))


@pytest.mark.usefixtures("hostile")
def test_a_live_stream_that_crashes_ends_alone(tmp_path: Path) -> None:
    source = make_media(
        tmp_path / "crash.mkv", video=[VideoSpec(duration_s=3.0)], audio=[AudioSpec(samples=tone(3.0), codec="flac")]
    )
    config = MediaConfig()
    info = sandbox.inspect(source, config)
    with pytest.raises(MediaError, match=r"crash\.mkv.*SIGSEGV"):
        stream(tmp_path / "hls", info)
    assert not (tmp_path / "hls" / "index.m3u8").exists()
    good = source.rename(tmp_path / "good.mkv")
    info = sandbox.inspect(good, config)
    stream(tmp_path / "live", info)
    assert "ENDLIST" in (tmp_path / "live" / "index.m3u8").read_text()


def test_one_track_is_extracted_in_the_sandbox(tmp_path: Path) -> None:
    source = make_media(
        tmp_path / "two.mkv",
        video=[VideoSpec(duration_s=2.0)],
        audio=[AudioSpec(samples=tone(2.0)), AudioSpec(samples=tone(2.0), codec="flac")],
    )
    config = MediaConfig()
    info = sandbox.inspect(source, config)
    out = tmp_path / "one.mkv"
    sandbox.extract(info, out, info.audio[1].index, with_video=True, config=config)
    made = probe(out)
    assert [track.codec for track in made.audio] == ["flac"]
    assert len(made.video) == 1
    sandbox.extract(info, tmp_path / "one.mka", info.audio[0].index, with_video=False, config=config)
    made = probe(tmp_path / "one.mka")
    assert [track.codec for track in made.audio] == ["aac"]
    assert made.video == ()
    with pytest.raises(MediaError, match=r"none\.mka writable"):
        sandbox.extract(info, tmp_path / "no" / "none.mka", info.audio[0].index, with_video=False, config=config)


def test_a_file_is_described_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = sandbox._ask
    monkeypatch.setattr(sandbox, "_ask", lambda *given: (asked.append(given[0]), ask(*given))[1])
    path, config = sound(tmp_path / "a.mka"), MediaConfig()
    first = sandbox.inspect(path, config)
    assert sandbox.inspect(path, config) == first == probe(path, config)
    assert len(asked) == 1
    sound(path, 2.0)
    assert sandbox.inspect(path, config).duration_s == pytest.approx(2.0, abs=0.1)
    with pytest.raises(MediaError, match=r"max_duration_s"):
        sandbox.inspect(path, MediaConfig(max_duration_s=1.0))
    path.unlink()
    with pytest.raises(MediaError, match="no such file"):
        sandbox.inspect(path, config)


def test_what_each_child_needs_is_ready_before_it_begins() -> None:
    program = (
        "import sys; from cluster.media import allowed, sandbox_process; sandbox_process._warm_up();"
        "print(allowed._decoders.cache_info().currsize, 'av.subtitles' in sys.modules)"
    )
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert made.stdout.split() == ["1", "True"]


def test_a_server_that_was_killed_is_started_again(tmp_path: Path) -> None:
    path = sound(tmp_path / "a.mka")
    assert len(listen(path)) == 3 * 16_000
    process = sandbox_server.server()._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(listen(path)) == 3 * 16_000


def the_spare(process: subprocess.Popen[bytes], *, not_pid: int = 0) -> psutil.Process:
    """The one process that waits for a request, once those that did one have ended."""
    while True:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children()
            if len(children) == 1 and children[0].pid != not_pid:
                return children[0]
        time.sleep(0.01)


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_process_that_was_killed_before_its_request_is_replaced(tmp_path: Path) -> None:
    path = sound(tmp_path / "a.mka")
    assert len(listen(path)) == 3 * 16_000
    process = sandbox_server.server()._process
    assert process is not None
    killed = 0
    for _ in range(2):
        spare = the_spare(process, not_pid=killed)
        killed = spare.pid
        spare.kill()
        while not has_ended(spare):
            time.sleep(0.01)
        assert len(listen(path)) == 3 * 16_000
    assert process.poll() is None


def test_a_fork_has_a_server_of_its_own() -> None:
    program = (
        "import os; from cluster.media.sandbox_server import server; first = server(); pid = os.fork();"
        "os._exit(server() is first) if pid == 0 else print(server() is first, os.waitpid(pid, 0)[1])"
    )
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert made.stdout.split() == ["True", "0"]


def test_no_process_outlives_its_server(tmp_path: Path) -> None:
    assert len(listen(sound(tmp_path / "a.mka"))) == 3 * 16_000
    process = sandbox_server.server()._process
    assert process is not None
    spare = the_spare(process)
    process.kill()
    process.wait()
    while not has_ended(spare):
        time.sleep(0.01)


def test_a_server_that_can_fork_no_more_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import os; from cluster.media import sandbox_process; fork = os.fork; calls = []\n"
        "def scarce():\n"
        "    calls.append(0)\n"
        "    if len(calls) in (2, 3): raise BlockingIOError('no more processes')\n"
        "    return fork()\n"
        "os.fork = scarce; sandbox_process.main()"
    )
    monkeypatch.setattr(sandbox_server, "PROGRAM", program)
    monkeypatch.setattr(sandbox_server, "_server", sandbox_server.Server())
    info = probe(sound(tmp_path / "a.mka"))

    def num_samples() -> int:
        return sum(map(len, sandbox.decode_audio(info, info.audio[0], hz=16_000, channels="mono")))

    assert num_samples() == 3 * 16_000  # by the first process; none is there for the next
    process = sandbox_server.server()._process
    with pytest.raises(MediaError, match="ends its process with status None"):
        num_samples()
    assert num_samples() == 3 * 16_000
    assert process is not None
    assert process.poll() is None


def test_sound_that_repeats_its_times_is_not_decoded_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "endless.mka"
    with av.open(str(sound(tmp_path / "a.mka", 40.0))) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0], opaque=True)
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.pts = packet.dts = min(packet.pts, 2000)
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(MediaError, match=r"media\.max_decoded_ratio"):
        listen(path, max_decoded_ratio=2.0)


@pytest.mark.parametrize("num_channels", [3, 4, 6, 7, 8, 12, 16])
@pytest.mark.parametrize("sample_format", ["PCM_16", "FLOAT", "PCM_U8"])
def test_every_number_of_channels_is_read(tmp_path: Path, num_channels: int, sample_format: str) -> None:
    path = tmp_path / "many.wav"
    soundfile.write(path, np.repeat(tone(1.0, channels=1), num_channels, axis=1), 48_000, subtype=sample_format)
    assert np.abs(listen(path)).max() > 0.1


@pytest.mark.parametrize(("codec", "name"), [("aac", "seven.m4a"), ("flac", "seven.mka"), ("ac3", "five.mka")])
def test_planar_and_packed_surround_sound_is_read(tmp_path: Path, codec: str, name: str) -> None:
    layout = "5.1" if codec == "ac3" else "7.1"
    path, num_channels = tmp_path / name, 6 if codec == "ac3" else 8
    with av.open(str(path), "w") as target:
        stream = target.add_stream(codec, rate=48_000)
        stream.layout = layout
        wave = np.repeat((tone(2.0, channels=1) * 32767).astype(np.int16), num_channels, axis=1)
        frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), "s16", layout)
        frame.sample_rate, frame.pts = 48_000, 0
        resampler = av.AudioResampler(
            format=stream.format, layout=layout, rate=48_000, frame_size=stream.codec_context.frame_size or 4096
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            target.mux(stream.encode(part))
        target.mux(stream.encode(None))
    assert np.abs(listen(path)).max() > 0.1


@pytest.mark.usefixtures("hostile")
def test_of_five_inputs_one_kills_its_decoder(tmp_path: Path) -> None:
    talk = make_short_talk(tmp_path / "talk.mkv", 8.0)
    sources = [talk]
    for name in ("one", "crash", "three", "four"):
        sources.append(tmp_path / f"{name}.mkv")
        sources[-1].write_bytes(talk.read_bytes())
    outcomes = asyncio.run(dub_all(sources, tmp_path / "out"))
    failed = {outcome.job.source.stem: outcome.error for outcome in outcomes if outcome.manifest is None}
    assert set(failed) == {"crash"}
    assert failed["crash"] is not None
    assert "SIGSEGV" in failed["crash"]
    assert "\n" not in failed["crash"]
