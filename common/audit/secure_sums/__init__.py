"""Secure sums, taken again: those behind an adapter, and those that failed."""
