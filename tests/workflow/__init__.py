"""Workflow tests: the real state machine and functions in one process. The fixture `_world` has package scope."""
