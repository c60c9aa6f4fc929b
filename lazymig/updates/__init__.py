"""An update: whether it is valid, which paths it writes, what is known after it. Pure."""
