"""Why items stand where they do: what a request's answer carries where it asks to be explained."""
