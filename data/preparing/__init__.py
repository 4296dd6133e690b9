"""From slices in a modality's unit to network images in [-1, 1]."""
