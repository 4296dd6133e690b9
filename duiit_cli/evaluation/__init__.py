"""How good a run is: held-out images, sets of images against each other, pairs, labels."""
