"""From network images back to files that other programs read."""
