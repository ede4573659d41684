"""Tools for local development: a simulated Waterflai, a local AWS with the application, and the demo. Not deployed."""
