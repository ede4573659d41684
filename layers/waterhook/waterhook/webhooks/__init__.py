"""Webhooks: the signed request that delivers an outcome to the URL of the caller."""
