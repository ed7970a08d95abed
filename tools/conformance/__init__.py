"""Conformance kit of the line protocol: docs/conformance.md says how to hold another implementation against it."""
