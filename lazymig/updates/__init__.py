"""An update: its checks, the paths that it writes, what is known after it. Pure."""
