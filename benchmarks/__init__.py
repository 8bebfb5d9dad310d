"""Public names are exported here."""
