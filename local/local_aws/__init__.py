"""The local runner: the application deployed by the real SAM CLI into a local AWS, and a demo of it."""
