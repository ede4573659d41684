"""Measures answers to callers that wait: their delay, and how many of a hundred callers may wait at the same time."""
