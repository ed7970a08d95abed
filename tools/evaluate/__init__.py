"""Measures every system on the same clips, with the protocol printed beside each number."""
