"""A simulated Waterflai: the asynchronous execution API, served on this machine for tests and the demo."""
