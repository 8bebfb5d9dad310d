"""Merchandising rules: what a shop wants shown, hidden, moved or placed, read from a TOML file."""
