"""What privacy costs in time: ratios measured in one run, never compared across machines."""
