"""Tests of one arm against another on the shop's own shoppers, and alerts when its lists drift."""
