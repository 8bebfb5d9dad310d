"""A generated shop in the data contract, for demos and tests."""
