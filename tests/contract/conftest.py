"""Profiles of hypothesis for the property tests in this folder."""

from tests.support import properties

properties.load()
