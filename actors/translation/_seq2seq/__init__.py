"""Parts shared by encoder-decoder translators: windows, hypotheses, conversion. Never an engine by itself."""
