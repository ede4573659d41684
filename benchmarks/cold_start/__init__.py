"""Measures cold starts: each built function compared with a bare handler and with a naive implementation."""
