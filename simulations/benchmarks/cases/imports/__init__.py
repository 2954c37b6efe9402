"""Imports of a million events and of ten, each against Polars by hand."""
