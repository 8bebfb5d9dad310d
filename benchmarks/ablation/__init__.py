"""What a setting of the towers does."""
