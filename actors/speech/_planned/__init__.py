"""Speech whose length is chosen before synthesis, for any model that takes durations. Never one engine's own code."""
