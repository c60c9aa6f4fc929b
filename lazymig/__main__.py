"""`python -m lazymig`: the program `lazymig`."""

from __future__ import annotations

from lazymig.cli.main import main

if __name__ == "__main__":
    main()
