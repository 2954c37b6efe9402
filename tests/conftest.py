"""Settings for every test: property tests have no deadline, as a busy machine misses any."""

from hypothesis import settings

settings.register_profile("fedtail", deadline=None)
settings.load_profile("fedtail")
