"""Events that shoppers make after the data of a release ends: checked, stored once each, and read back."""
