"""What both sides need: pure code that opens no socket and touches only paths it is given."""
