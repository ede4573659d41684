"""The commands: `waterhook NAME` is the function `command` of the module NAME."""
