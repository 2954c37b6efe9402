"""The service as a shop's own server calls it: httpx and the standard library, nothing of ours."""
