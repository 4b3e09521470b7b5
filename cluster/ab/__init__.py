"""A/B comparison of two ways to dub: arms, scores, statistics, page. Never the dubbing itself."""
