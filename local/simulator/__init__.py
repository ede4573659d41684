"""A simulated Waterflai: its asynchronous execution API on loopback, for tests and the demo."""
