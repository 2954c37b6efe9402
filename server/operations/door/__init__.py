"""The proxy that stands before SuperLink: whom it lets in, how much, and what it may read."""
