"""The deployed stack against a deployed fixed-wait poller: same jobs, same simulator, one run."""
