"""Between a run and its operator: how nodes stand, state and log out, orders in."""
