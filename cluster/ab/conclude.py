"""Concludes a comparison: from videos dubbed by both arms to ``ab.json`` and ``ab.html``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.errors import MediaError
from cluster.ab.arms import ArmChoice
from cluster.ab.clips import Clipper, Clips, ClipSource
from cluster.ab.page import UnitView, differing_units, render
from cluster.ab.result import Comparison, compare_dubs
from cluster.ab.scores import pair_lines
from cluster.config.schema import Config
from cluster.manifest import Manifest, replace_text
from cluster.quality import Metric

JSON_NAME, PAGE_NAME = "ab.json", "ab.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class DubbedTwice:
    """One video by both arms, its dubs in the order of the arms."""

    source: Path
    out: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """Settings of the statistics and of the page."""

    primary: Metric
    """Fixed before anything is dubbed."""
    seed: int
    num_resamples: int
    max_embed_bytes: int
    """Budget for the sound that is embedded in the page."""


def conclude(
    videos: Sequence[DubbedTwice],
    choices: tuple[ArmChoice, ArmChoice],
    analysis: Analysis,
    config: Config,
    out: Path,
) -> Comparison:
    """Compare the arms, and write both files into ``out``, each whole or not at all.

    Raises MediaError if nobody speaks in any of the videos, ConfigError if the primary metric was not measured.
    """
    manifests = [video.manifest for video in videos]
    pairs = pair_lines(manifests)
    if not pairs:
        raise MediaError("at least one input must have speech, to compare dubs of it; found none in any")
    comparison = compare_dubs(
        manifests, pairs, choices, analysis.primary, seed=analysis.seed, num_resamples=analysis.num_resamples
    )
    page = render(comparison, differing_units(comparison, pairs), _cutter(videos, config), analysis.max_embed_bytes)
    replace_text(out / JSON_NAME, comparison.model_dump_json(indent=1) + "\n")
    replace_text(out / PAGE_NAME, page)
    return comparison


def _cutter(videos: Sequence[DubbedTwice], config: Config) -> Callable[[UnitView], Clips]:
    @functools.cache
    def clipper(index: int) -> Clipper:
        video = videos[index]
        source = ClipSource(
            source=video.source,
            source_track=video.manifest.input.audio_track.number,
            dubbed=video.out / video.manifest.media_file,
        )
        return Clipper(source, config)

    return lambda unit: clipper(unit.video).cut(unit.span)
