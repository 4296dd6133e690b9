"""What models are put together from, besides networks."""
