"""The training loop and what surrounds it: its folder, going on, the guard on its numbers, several processes."""
