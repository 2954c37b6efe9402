"""A merchant's append-only, signed record of what its shoppers were charged."""
