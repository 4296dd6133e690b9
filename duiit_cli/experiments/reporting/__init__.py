"""What came out: read from the experiment's folder, compared, worded, drawn."""
