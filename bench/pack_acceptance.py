"""Packs what gpu_acceptance.py needs, in 64 MiB, for a machine with torch and transformers but no network.

``python bench/pack_acceptance.py --out site.tar.xz`` downloads the wheels that requirements.lock pins, for the Python
of that machine, leaves out what the checks never import, strips symbols, and compresses the rest. There:

    mkdir site && tar -xJf site.tar.xz -C site
    PYTHONPATH=.:site python bench/gpu_acceptance.py --out gpu.json
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_BYTES = 64 * 1024**2
"""Limit of what is carried: this archive and the repository's files."""
PACKAGES = (
    *("ray", "ctranslate2", "faster-whisper", "coqui-tts", "coqui-tts-trainer", "coqpit-config"),
    *(
        "monotonic-alignment-search",
        "pydantic",
        "pydantic-core",
        "annotated-types",
        "typing-inspection",
        "langcodes",
        "platformdirs",
    ),
    *("tenacity", "jsonschema", "jsonschema-specifications", "referencing", "rpds-py"),
)
"""Packages that such a machine lacks. Others that Coqui and faster-whisper import are replaced: acceptance/stubs.py."""
LEFT_OUT = re.compile(
    r"ray/(jars|rllib|tune|train|llm|dashboard/client|cpp|core/src/ray/cpp)/|ray/core/libjemalloc|"
    r"(TTS|trainer)/(demos|bin|server|vc)/|langcodes/tests/|.*/tests?/|.*\.(jar|pyc|pyi|js\.map|h|cc)$"
)
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 17)] + ["manylinux2014_x86_64", "manylinux1_x86_64"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 if what is carried passes ``MAX_BYTES``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--wheels", type=Path, help="folder of wheels that are here already")
    parser.add_argument("--python", default="3.12", help="version of Python on that machine")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        wheels = args.wheels or download(Path(folder) / "wheels", args.python)
        site = Path(folder) / "site"
        for wheel in sorted(wheels.glob("*.whl")):
            unpack(wheel, site)
        for binary in binaries(site):
            subprocess.run(["strip", "--strip-unneeded", str(binary)], check=False, stderr=subprocess.DEVNULL)
        compress(site, args.out)
    carried = args.out.stat().st_size + repository_bytes()
    sizes = f"{args.out}: {args.out.stat().st_size / 2**20:.1f} MiB; with the repository {carried / 2**20:.1f} MiB"
    print(f"{sizes} of {MAX_BYTES / 2**20:g} that can be carried")
    if carried > MAX_BYTES:
        print("too large: leave more out of PACKAGES or LEFT_OUT", file=sys.stderr)
    return 0 if carried <= MAX_BYTES else 1


def download(folder: Path, python: str) -> Path:
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    target = ["--only-binary=:all:", "--no-deps", "--implementation", "cp", "--python-version", python]
    command = [sys.executable, "-m", "pip", "download", "-q", "-d", str(folder), *target, *platforms, *pins()]
    subprocess.run(command, check=True)
    return folder


def pins() -> list[str]:
    """``name==version`` of each package, as locked. Raises ValueError if one is not."""
    locked = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if found := re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", line):
            locked[_plain(found[1])] = f"{found[1]}=={found[2]}"
    missing = [name for name in PACKAGES if _plain(name) not in locked]
    if missing:
        raise ValueError(f"requirements.lock must have {', '.join(missing)}; run make lock")
    return [locked[_plain(name)] for name in PACKAGES]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def unpack(wheel: Path, site: Path) -> None:
    """All files of a wheel but those that the checks never import."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if entry.is_dir() or LEFT_OUT.match(entry.filename):
                continue
            path = Path(archive.extract(entry, site))
            path.chmod((entry.external_attr >> 16) & 0o777 | 0o600)


def binaries(site: Path) -> list[Path]:
    """Programs and libraries: files that begin as ELF does."""
    found = []
    for path in site.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    found.append(path)
    return found


def compress(site: Path, out: Path) -> None:
    # Binaries one after another: xz finds what they share.
    paths = sorted((path for path in site.rglob("*") if path.is_file()), key=lambda path: (path.suffix, str(path)))
    with tarfile.open(out, "w:xz", preset=9) as archive:
        for path in paths:
            archive.add(path, str(path.relative_to(site)))


def repository_bytes() -> int:
    """Size of the files that git tracks, which are carried too."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sum(path.stat().st_size for name in names.split("\0") if name and (path := ROOT / name).is_file())


if __name__ == "__main__":
    sys.exit(main())
