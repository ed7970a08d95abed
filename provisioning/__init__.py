"""Bench and first boot: room authority, identities, roster, certificates, broker configuration."""
