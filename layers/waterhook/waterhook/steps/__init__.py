"""The steps of the state machine, one module each, and what they share."""
