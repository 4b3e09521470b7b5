"""Signal processing on sample arrays: windows, mixing, loudness. Never containers or codecs."""
