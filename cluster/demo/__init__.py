"""The demo talk: script, slides, video. Never used by a dub."""
