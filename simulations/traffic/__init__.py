"""A simulated shop: shoppers of known preferences visit the service for four weeks.

What it measures is held against what is true: click-through, which arm is better, and what a round
learns from the events that came back. `make traffic` runs all of it.
"""
