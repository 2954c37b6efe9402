"""`fedtail simulate` from data to signed release."""
