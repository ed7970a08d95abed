"""The classroom program."""
