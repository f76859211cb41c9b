"""`python -m edgeae`: the same as the `edgeae` command."""

from .cli import main

if __name__ == "__main__":
    main()
