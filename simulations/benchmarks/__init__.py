"""How fast and how small: ratios measured in one run against a named peer: `make bench`."""
