"""How single files are written: encodings, the strict structure of CSV, JSON Lines, XML feeds."""
