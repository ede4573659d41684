"""Compares the deployed stack with a deployed job poller, with the same jobs and the same simulator."""
