"""Hypothesis without clocks: a busy machine fails no test, and the same tree draws the same examples."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "imgsynth", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("imgsynth")
