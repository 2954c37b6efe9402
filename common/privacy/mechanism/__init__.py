"""Sampling, clipping, exact sums, noise, and the canaries that audit them."""
