"""Sources of candidates beside the towers, and how they come together in one order."""
