"""The headers of every request to Waterflai."""


def request_headers(key: str, accept: str) -> dict[str, str]:
    """Return the headers of a request that expects the media type `accept`."""
    return {
        "X-API-Key": key,
        "Accept": accept,
        # Compressed responses are decoded anyway, because some gateways compress in spite of `identity`.
        "Accept-Encoding": "identity",
        "User-Agent": "waterhook",
    }
