"""The desk program."""
