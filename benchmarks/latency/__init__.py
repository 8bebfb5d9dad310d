"""How long an answer takes, under which load."""
