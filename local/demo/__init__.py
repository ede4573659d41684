"""`make demo`: one execution on the local stack, shown from the request to the notification."""
