"""Measures webhooks: their delay, hundreds of deliveries with failing receivers, and the share of a host."""
