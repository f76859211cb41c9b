"""The `edgeae` command."""
