"""Data sets and made-up shops, and how they are divided among merchants."""
