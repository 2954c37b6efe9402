"""One node in one run of a federation."""
