"""The command `waterhook`: uses and checks a deployed Waterhook from the terminal."""
