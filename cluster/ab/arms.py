"""Parses the arms of a comparison, ``--a`` and ``--b``, into configurations that share one analysis.

An arm is given as a strategy's name, a profile (``profile=speed``), settings (``fitting.max_rate=1.3``, several by
commas or by repeating the option) or a YAML file. Settings of the transcription, which is done once, and of the
measures are shared, and an arm may not set them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from actors.errors import ConfigError
from cluster.alignment.config import Strategy
from cluster.config.load import load_config, profile_names, read_tree
from cluster.config.schema import Config
from cluster.quality import QualityConfig
from cluster.steps.records import Arm

ARM_SECTIONS = frozenset(
    {"profile", "translation", "embedding", "speech", "alignment", "candidates", "fitting", "mixing", "quality"}
)
"""Sections of the configuration that work after the speech was heard."""
SHARED = frozenset(Config.model_fields) - ARM_SECTIONS
SHARED_KEYS = {
    "speech": ("clone", "consent", "clone_reference_s"),
    "quality": tuple(sorted(set(QualityConfig.model_fields) - {"retry", "max_retries"})),
}
"""Keys in an arm's sections that configure the transcription and the measures, and are shared."""
STRATEGIES: tuple[str, ...] = get_args(Strategy)
_NEXT_SETTING = re.compile(r",(?=\s*[\w.]+=)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmChoice:
    """One arm as it was asked for, and its configuration."""

    arm: Arm
    label: str
    """The option's text, as given."""
    held: tuple[str, ...]
    """Settings of its profile that were held to the base configuration's, because the analysis is shared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting that differs between the arms."""

    key: str
    a: Any
    b: Any


def choose_arm(
    name: str, given: Sequence[str], config_name: str, assignments: Sequence[str], profile: str | None
) -> ArmChoice:
    """The base configuration, overlaid with the settings of this arm. Raises ConfigError."""
    own: list[str] = []
    for text in given:
        own += _assignments(name, text.strip())
    profiles = [assignment.partition("=")[2] for assignment in own if assignment.startswith("profile=")]
    own = [assignment for assignment in own if not assignment.startswith("profile=")]
    for assignment in own:
        _refuse_shared(name, assignment.partition("=")[0])
    base = load_config(config_name, assignments, profile)
    full = load_config(config_name, [*assignments, *own], profiles[-1] if profiles else profile)
    update = {section: getattr(full, section) for section in ARM_SECTIONS}
    for section, keys in SHARED_KEYS.items():
        update[section] = update[section].model_copy(update={key: getattr(getattr(base, section), key) for key in keys})
    config = base.model_copy(update=update)
    held = tuple(sorted(setting.key for setting in differences(full, config)))
    return ArmChoice(arm=Arm(name=name, config=config), label=", ".join(given), held=held)


def differences(a: Config, b: Config) -> list[Setting]:
    """The settings that have different values, over the whole tree."""
    of_a, of_b = (_leaves(config.model_dump(mode="json")) for config in (a, b))
    return [
        Setting(key=key, a=of_a.get(key), b=of_b.get(key))
        for key in sorted(of_a.keys() | of_b.keys())
        if of_a.get(key) != of_b.get(key)
    ]


def _assignments(name: str, text: str) -> list[str]:
    if text in STRATEGIES:
        return [f"alignment.strategy={text}"]
    if "=" in text:
        return [part.strip() for part in _NEXT_SETTING.split(text)]
    if Path(text).is_file():
        return [f"{key}={json.dumps(value)}" for key, value in _leaves(read_tree(Path(text))).items()]
    raise ConfigError(
        f"--{name} must be a strategy ({', '.join(STRATEGIES)}), a profile (profile={'|'.join(profile_names())}), "
        f"settings (fitting.max_rate=1.3) or a YAML file; found {text!r}"
    )


def _refuse_shared(name: str, key: str) -> None:
    section, _, inner = key.partition(".")
    if section in SHARED or inner.partition(".")[0] in SHARED_KEYS.get(section, ()):
        raise ConfigError(
            f"--{name} must leave alone what both arms share, the speech is heard once; found {key}; an arm may set "
            f"{', '.join(sorted(ARM_SECTIONS))}; use --set for both"
        )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key → value; an empty mapping is a value."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
