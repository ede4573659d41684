"""What leaves: CloudEvents, outcomes and progress, and the output of a state machine execution."""
