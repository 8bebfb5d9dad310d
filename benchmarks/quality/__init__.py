"""Quality of ranked lists: recall, slices, revenue, lost targets."""
