"""Delivery of signed events to providers over MQTT."""
