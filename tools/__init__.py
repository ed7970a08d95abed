"""For developers and release people; never installed on a box."""
