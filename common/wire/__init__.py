"""What travels between server and node."""
