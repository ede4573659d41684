"""Waterflai's HTTP API: the client, its connections, its event streams and the API key."""
