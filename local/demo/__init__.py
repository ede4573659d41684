"""`make demo`: shows one execution on the local stack, from the request to the notification."""
