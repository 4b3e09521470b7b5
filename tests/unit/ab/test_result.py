"""From two dubs to a verdict: which lines pair, what counts as differing, what silence costs, how it is told."""

from __future__ import annotations

import pytest

from actors.errors import ConfigError
from cluster.ab.arms import ArmChoice, choose_arm
from cluster.ab.clips import Clips
from cluster.ab.figures import cost_scatter, histogram, interval_bars
from cluster.ab.page import differing_units, render
from cluster.ab.result import Comparison, compare_dubs
from cluster.ab.scores import PairedLine, pair_lines, score_of
from cluster.manifest import DubRecord, Manifest, MeasureRecord, UtteranceRecord
from cluster.quality import Metric
from tests.unit.manifests import sample_manifest

NUM_RESAMPLES = 5_000


def measured(line: UtteranceRecord, **values: float) -> UtteranceRecord:
    measures = tuple(
        MeasureRecord(metric=Metric(name), value=value, verdict=None, why=None) for name, value in values.items()
    )
    return line.model_copy(update={"quality": measures})


def by_both_arms(seed: int, *, shift: float, every: int = 2) -> Manifest:
    """A talk whose lines come out otherwise by arm a, every second one, better by ``shift`` in back_chrf."""
    manifest = sample_manifest(40, seed=seed)
    [dub] = manifest.dubs
    of_a, of_b = [], []
    for index, line in enumerate(dub.utterances):
        differs = index % every == 0 and bool(line.text)
        base = 50.0 + index % 7
        text = f"{line.text} Sim." if differs else line.text
        wobble = 2.0 * (index % 3 - 1) if differs else 0.0
        of_a.append(
            measured(
                line.model_copy(update={"text": text}),
                back_chrf=base + (shift + wobble if differs else 0.0),
                duration_ratio=1.0 if differs else 1.2,
                wer=0.1,
            )
        )
        of_b.append(measured(line, back_chrf=base, duration_ratio=1.2, wer=0.1))
    dubs = tuple(
        DubRecord(language="pt", arm=arm, utterances=tuple(lines), subtitles=())
        for arm, lines in (("a", of_a), ("b", of_b))
    )
    return manifest.model_copy(update={"dubs": dubs})


@pytest.fixture(scope="module")
def choices() -> tuple[ArmChoice, ArmChoice]:
    a, b = (
        choose_arm(name, [f"fitting.max_rate={rate}"], "offline", (), None) for name, rate in (("a", 1.3), ("b", 1.4))
    )
    return a, b


def compared(
    manifests: list[Manifest], choices: tuple[ArmChoice, ArmChoice], primary: Metric = Metric.BACK_CHRF
) -> tuple[Comparison, list[PairedLine]]:
    pairs = pair_lines(manifests)
    return compare_dubs(manifests, pairs, choices, primary, num_resamples=NUM_RESAMPLES), pairs


def test_a_better_arm_wins_and_is_named(choices: tuple[ArmChoice, ArmChoice]) -> None:
    found, _ = compared([by_both_arms(seed, shift=5) for seed in range(9)], choices)
    assert found.winner == "a"
    assert found.verdict.startswith("a (fitting.max_rate=1.3) is better than b (fitting.max_rate=1.4): back_chrf ")
    assert (found.resampled, found.num_clusters) == ("video", 9)
    primary, *secondary = found.metrics
    assert primary.metric is Metric.BACK_CHRF
    assert primary.p_holm is None
    assert primary.differing is not None
    assert primary.differing.value == pytest.approx(5, abs=0.6)
    assert primary.all.value < primary.differing.value
    by_name = {metric.metric: metric for metric in secondary}
    assert set(by_name) == {Metric.WER, Metric.DURATION_RATIO}
    assert by_name[Metric.DURATION_RATIO].favours == "a"
    assert by_name[Metric.WER].favours is None
    assert [(setting.key, setting.a, setting.b) for setting in found.settings] == [("fitting.max_rate", 1.3, 1.4)]


def test_a_metric_of_which_less_is_better_favours_the_smaller(choices: tuple[ArmChoice, ArmChoice]) -> None:
    found, _ = compared([by_both_arms(seed, shift=0) for seed in range(9)], choices, Metric.DURATION_RATIO)
    assert found.metrics[0].all.value < 0
    assert found.winner == "a"


def test_no_winner_where_differences_cancel(choices: tuple[ArmChoice, ArmChoice]) -> None:
    found, _ = compared([by_both_arms(seed, shift=0) for seed in range(9)], choices)
    assert found.winner is None
    assert found.verdict.startswith("no winner between a (")


def test_equal_dubs_have_no_winner_and_no_unit_to_show(choices: tuple[ArmChoice, ArmChoice]) -> None:
    manifest = by_both_arms(0, shift=5)
    same = manifest.model_copy(update={"dubs": (manifest.dubs[1], manifest.dubs[1])})
    found, pairs = compared([same], choices)
    assert found.winner is None
    assert found.num_differing_units == 0
    assert found.verdict.endswith("came out the same in every unit")
    assert differing_units(found, pairs) == []
    assert histogram(found) == ()


def test_all_lines_of_a_unit_that_differs_are_marked_and_only_what_is_heard_makes_it_differ() -> None:
    manifest = by_both_arms(0, shift=5)
    dub_a, dub_b = manifest.dubs
    joined = {"unit_id": manifest.units[0].id}
    lines_a = [line.model_copy(update=joined) if at < 2 else line for at, line in enumerate(dub_a.utterances)]
    lines_b = [
        line.model_copy(update={"gain_db": 9.0} | (joined if at < 2 else {}))
        for at, line in enumerate(dub_b.utterances)
    ]
    lines_a[0] = lines_a[0].model_copy(update={"text": "Outra coisa."})
    lines_a[1] = lines_b[1]
    for at in range(2, len(lines_a)):
        lines_a[at] = lines_b[at].model_copy(
            update={"gain_db": -9.0, "alignment": "hybrid", "break_confidences": (0.9,)}
        )
    dubs = (
        dub_a.model_copy(update={"utterances": tuple(lines_a)}),
        dub_b.model_copy(update={"utterances": tuple(lines_b)}),
    )
    pairs = pair_lines([manifest.model_copy(update={"dubs": dubs})])
    assert [pair.differs for pair in pairs] == [True, True] + [False] * (len(pairs) - 2)


def test_a_line_left_in_the_original_conveys_nothing() -> None:
    [line, *_] = sample_manifest(1).dubs[0].utterances
    silent = line.model_copy(update={"text": ""})
    assert score_of(silent, Metric.BACK_CHRF) == 0.0
    assert score_of(silent, Metric.WER) == 1.0
    assert score_of(silent, Metric.STRETCH) is None
    assert score_of(line, Metric.BACK_CHRF) is None


def test_scores_are_turned_so_that_they_can_be_compared() -> None:
    [line, *_] = sample_manifest(1).dubs[0].utterances
    half, double = (score_of(measured(line, duration_ratio=ratio), Metric.DURATION_RATIO) for ratio in (0.5, 2.0))
    assert half == pytest.approx(double)
    assert [score_of(measured(line, syllables_per_s=pace), Metric.SYLLABLES_PER_S) for pace in (3.0, 5.0, 8.0)] == [
        1.0,
        0.0,
        1.5,
    ]


def test_a_primary_metric_that_was_not_measured_is_refused(choices: tuple[ArmChoice, ArmChoice]) -> None:
    with pytest.raises(ConfigError, match="cosine was measured on none of 40 lines"):
        compared([by_both_arms(0, shift=5)], choices, Metric.COSINE)


def test_a_comparison_survives_its_file(choices: tuple[ArmChoice, ArmChoice]) -> None:
    found, _ = compared([by_both_arms(0, shift=5)], choices)
    assert Comparison.model_validate_json(found.model_dump_json()) == found


def test_pictures_put_a_on_the_right_where_it_is_better(choices: tuple[ArmChoice, ArmChoice]) -> None:
    found, _ = compared([by_both_arms(seed, shift=5) for seed in range(9)], choices)
    for bar in interval_bars(found.metrics):
        assert 0 <= bar.low <= bar.value <= bar.high <= 100
        if bar.metric.favours == "a":
            assert bar.low > 50
    bins = histogram(found)
    assert sum(bin.num_lines for bin, _ in bins) == found.metrics[0].num_differing
    assert len(bins) % 2 == 1
    for side in ("a", "b"):
        scatter = cost_scatter(found, side)  # type: ignore[arg-type]
        assert scatter is not None
        assert len(scatter.dots) == found.metrics[0].num_pairs


def test_the_page_shows_the_largest_difference_first_and_embeds_no_more_than_allowed(
    choices: tuple[ArmChoice, ArmChoice],
) -> None:
    found, pairs = compared([by_both_arms(0, shift=5)], choices)
    units = differing_units(found, pairs)
    differences = [abs(unit.difference or 0) for unit in units]
    assert differences == sorted(differences, reverse=True)
    cut = []

    def clips(unit: object) -> Clips:
        cut.append(unit)
        return Clips(source=b"s" * 100, a=b"a" * 100, b=b"b" * 100)

    page = render(found, units, clips, max_embed_bytes=650)
    assert page.count("<audio") == 3 * 2
    assert page.count("<article") == len(units)
    assert len(cut) == 3
    assert "<script src" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_what_was_said_cannot_write_the_page(choices: tuple[ArmChoice, ArmChoice]) -> None:
    manifest = by_both_arms(0, shift=5)
    dub_a, dub_b = manifest.dubs
    hostile = dub_a.utterances[0].model_copy(update={"text": "</script><img src=x onerror=alert(1)>"})
    dub_a = dub_a.model_copy(update={"utterances": (hostile, *dub_a.utterances[1:])})
    found, pairs = compared([manifest.model_copy(update={"dubs": (dub_a, dub_b)})], choices)
    page = render(found, differing_units(found, pairs), lambda unit: Clips(source=b"", a=b"", b=b""), 0)
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
