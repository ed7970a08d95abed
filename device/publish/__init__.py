"""The unit's way out: outbox (pure) and MQTT."""
