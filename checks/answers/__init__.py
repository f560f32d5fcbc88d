"""Records the responses to viewers and admin clients, to compare two checkouts."""
