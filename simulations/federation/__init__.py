"""Federations on one machine: in this process, or several side by side."""
