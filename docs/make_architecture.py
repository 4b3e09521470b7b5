"""Draws docs/architecture.svg from the code: packages, their layers, and imports: ``python docs/make_architecture.py``.

Boxes and rows come from the import contracts in pyproject.toml, lines from the imports that are there. Inside a
package, an import that follows from a chain of others is left out. With ``--check`` nothing is written; the exit
status is 1 if the picture is not current.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

import grimp

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "architecture.svg"
INK, BOX, EDGE = "#6e7781", "#3b82f6", "#e8772e"
"""Readable on a light page and on a dark one."""
WIDTH, BOX_HEIGHT, ROW, BAND_HEAD, GAP, LETTER = 960, 26, 54, 34, 12, 7.2


@dataclass
class Band:
    """One top-level package: rows of boxes, each row importing only rows below it."""

    name: str
    rows: Sequence[Sequence[str]]
    top: float = 0.0
    centres: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def height(self) -> float:
        return BAND_HEAD + ROW * len(self.rows)


def bands() -> list[Band]:
    """The packages in order, with the layers of their contracts."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = {
        contract["containers"][0]: [
            [box.strip() for box in row.replace(":", "|").split("|")] for row in contract["layers"]
        ]
        for contract in tool["contracts"]
        if "containers" in contract
    }
    [order] = [contract["layers"] for contract in tool["contracts"] if contract["name"].startswith("raydub →")]
    return [Band(name=name, rows=layers.get(name, [])) for name in order]


def imports_between(graph: grimp.ImportGraph, sources: str, targets: str) -> int:
    """Number of pairs of modules."""
    return len(
        {
            (chain[0], chain[-1])
            for chain in graph.find_shortest_chains(importer=sources, imported=targets, as_packages=True)
            if len(chain) == 2
        }
    )


def edges_inside(graph: grimp.ImportGraph, band: Band) -> list[tuple[str, str]]:
    """(importer, imported) between boxes, without those that follow from others."""
    names = [name for row in band.rows for name in row]
    direct = {
        (one, other)
        for one, other in itertools.permutations(names, 2)
        if imports_between(graph, f"{band.name}.{one}", f"{band.name}.{other}")
    }
    reached = set(direct)
    for middle, one, other in itertools.product(names, repeat=3):
        if (one, middle) in reached and (middle, other) in reached:
            reached.add((one, other))
    return sorted(
        (one, other)
        for one, other in direct
        if not any((one, middle) in reached and (middle, other) in reached for middle in names)
    )


def draw(graph: grimp.ImportGraph) -> str:
    found = bands()
    top = float(GAP)
    for band in found:
        band.top = top
        top += band.height + 2 * GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0f}" font-family="sans-serif" '
        f'font-size="13" fill="{INK}">\n'
    ]
    for band, below in itertools.zip_longest(found, found[1:]):
        parts += _band(band)
        parts += _edges(band, edges_inside(graph, band))
        if below is not None:
            label = ", ".join(
                f"{other.name} {number}"
                for other in found[found.index(band) + 1 :]
                if (number := imports_between(graph, band.name, other.name))
            )
            middle, end = band.top + band.height, below.top
            parts.append(f'<path d="M{WIDTH / 2} {middle}V{end - 2}" stroke="{EDGE}" stroke-width="3"/>\n')
            parts.append(f'<text x="{WIDTH / 2 + 10}" y="{(middle + end) / 2 + 4}">imports {escape(label)}</text>\n')
        parts += _boxes(band)
    return "".join([*parts, "</svg>\n"])


def _band(band: Band) -> Iterator[str]:
    yield (
        f'<rect x="{GAP}" y="{band.top}" width="{WIDTH - 2 * GAP}" height="{band.height}" rx="6" fill="none" '
        f'stroke="{INK}"/>\n<text x="{2 * GAP}" y="{band.top + 22}" font-size="16" font-weight="bold">{band.name}'
        "</text>\n"
    )
    for number, row in enumerate(band.rows):
        for at, name in enumerate(row):
            x = WIDTH * (at + 1) / (len(row) + 1)
            band.centres[name] = (x, band.top + BAND_HEAD + ROW * number + BOX_HEIGHT / 2)


def _edges(band: Band, edges: Sequence[tuple[str, str]]) -> Iterator[str]:
    for one, other in edges:
        (x1, y1), (x2, y2) = band.centres[one], band.centres[other]
        start, end = y1 + BOX_HEIGHT / 2, y2 - BOX_HEIGHT / 2
        bend = (end - start) / 2
        yield (
            f'<path d="M{x1:.0f} {start:.0f}C{x1:.0f} {start + bend:.0f} {x2:.0f} {end - bend:.0f} {x2:.0f} {end:.0f}" '
            f'fill="none" stroke="{EDGE}" stroke-opacity=".55"/>\n'
        )


def _boxes(band: Band) -> Iterator[str]:
    for name, (x, y) in band.centres.items():
        width = LETTER * len(name) + 20
        yield (
            f'<rect x="{x - width / 2:.0f}" y="{y - BOX_HEIGHT / 2:.0f}" width="{width:.0f}" height="{BOX_HEIGHT}" '
            f'rx="4" fill="{BOX}"/><text x="{x:.0f}" y="{y + 4.5:.0f}" text-anchor="middle" fill="#fff">{name}</text>\n'
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    graph = grimp.build_graph("raydub", "serve", "cluster", "actors", cache_dir=None)
    text = draw(graph)
    if PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == text:
        return 0
    print("docs/architecture.svg " + ("must be drawn again: run make docs" if is_check else "written"))
    if not is_check:
        PICTURE.write_text(text, encoding="utf-8")
    return 1 if is_check else 0


if __name__ == "__main__":
    sys.exit(main())
