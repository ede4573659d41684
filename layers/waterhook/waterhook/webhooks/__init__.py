"""Webhook requests: their signature, and the HTTP request to a receiver."""
