"""The checks of `waterhook doctor`, one module each."""
