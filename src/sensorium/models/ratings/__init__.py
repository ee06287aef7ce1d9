"""Ratings: every method that foretells what somebody would rate, with new users and items folded in."""
