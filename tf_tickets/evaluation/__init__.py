"""How well tickets do."""
