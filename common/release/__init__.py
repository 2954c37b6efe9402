"""The signed global release: manifest, signing, verifying."""
