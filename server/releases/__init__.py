"""From a finished run to a signed release that everybody may read."""
