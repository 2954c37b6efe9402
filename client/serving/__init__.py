"""Recommendations over HTTP, and what shoppers did with them."""
