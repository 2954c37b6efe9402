"""The auditor's side: exported files in, findings out. Nothing is believed, nothing is asked."""
