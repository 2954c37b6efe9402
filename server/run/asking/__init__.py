"""What a run asks its nodes: how, and what only before the first round or after the last."""
