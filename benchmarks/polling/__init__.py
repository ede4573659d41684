"""Simulates the delay and the cost of waiting: the shipped polling policy compared with other polling loops."""
