"""Adapters of the operating system: clock, durable storage, systemd."""
