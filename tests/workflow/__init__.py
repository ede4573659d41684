"""A package, so that its world ends with it: pytest knows no scope of a folder without this file."""
