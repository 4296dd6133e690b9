"""Using trained networks: over scans, into files, into predictions and other programs' formats."""
