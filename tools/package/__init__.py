"""`python -m tools.package`: Debian packages of the two roles."""
