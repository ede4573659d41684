"""`waterhook`: a deployed Waterhook from the terminal."""
