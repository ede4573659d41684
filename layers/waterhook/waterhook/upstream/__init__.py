"""Waterflai's HTTP API: the client, its connections, event streams and the API key."""
