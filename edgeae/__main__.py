"""`python -m edgeae`: the same as the `edgeae` command."""

from edgeae.cli.app import main

if __name__ == "__main__":
    main()
