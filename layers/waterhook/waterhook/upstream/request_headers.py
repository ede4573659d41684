"""The headers that every request to Waterflai carries."""


def request_headers(key: str, accept: str) -> dict[str, str]:
    """Return the headers of a request that expects the media type `accept`."""
    return {
        "X-API-Key": key,
        "Accept": accept,
        # Responses are decoded all the same: some gateways compress although identity was requested.
        "Accept-Encoding": "identity",
        "User-Agent": "waterhook",
    }
