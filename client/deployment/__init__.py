"""The node as a process on a merchant's machine: keys, connection, workers, downloads."""
