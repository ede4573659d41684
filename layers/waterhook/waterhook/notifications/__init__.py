"""Everything that subscribers receive: outcome and progress events, and the output of a state machine execution."""
