"""`waterhook`: a deployed Waterhook from the terminal."""

__version__ = "0.1.0"
