"""The laptop: a simulated Waterflai, a local AWS and the demo. Nothing here is deployed."""
