"""The checks of `waterhook doctor`, one module for each check."""
