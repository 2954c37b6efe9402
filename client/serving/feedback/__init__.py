"""The store of lists that were shown and events that came back."""
