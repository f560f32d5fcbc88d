"""Records what viewers and applications are answered, to compare two checkouts by it."""
