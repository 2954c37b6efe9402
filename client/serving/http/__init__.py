"""The service's routes, and what stands before them."""
