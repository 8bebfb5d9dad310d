"""Why an item is not among the answered ones: the stage that lost it, by how much, and what would bring it in."""
