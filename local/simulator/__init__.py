"""A simulated Waterflai for tests and the demo: its asynchronous execution API on the loopback interface.

A fault passes through five modules, in this order:

fault_types.py      one dataclass for each fault type, for example `Reset` or `Stall`: data only
fault_rules.py      parses a fault rule from JSON: the operation, the calls and the fault type
fault_registry.py   counts the calls of each execution and returns the rule that applies to a call
fault_responses.py  sends the response with the fault over HTTP
document_faults.py  changes the JSON document of a response; fault_responses.py calls it

event_stream.py applies the faults of event streams.
"""
