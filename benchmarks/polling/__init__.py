"""The delay and the cost of waiting: the shipped policy against every polling loop, simulated. `make bench`."""
