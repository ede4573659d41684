"""Development on a laptop: a simulated Waterflai, the application in a local AWS, the demo. Not deployed."""
