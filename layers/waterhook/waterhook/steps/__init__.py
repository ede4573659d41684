"""The steps of the state machine, one module each, and the modules that they share."""
