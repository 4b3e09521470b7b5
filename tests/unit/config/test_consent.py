"""No voice is cloned without its speaker's consent."""

from __future__ import annotations

import pytest

from actors.errors import ConfigError
from cluster.config.load import load_config, overlaid


def test_cloning_needs_consent() -> None:
    with pytest.raises(ConfigError, match=r"speakers' consent; found none.*speech\.consent"):
        load_config("offline", ["speech.clone=true"])
    assert load_config("offline", ["speech.clone=true", "speech.consent=true"]).speech.clone


def test_an_input_cannot_be_cloned_by_its_own_settings_alone() -> None:
    config = load_config("offline")
    with pytest.raises(ConfigError, match="consent"):
        overlaid(config, {"speech": {"clone": True}})
    assert overlaid(config, {"speech": {"clone": True, "consent": True}}).speech.clone
