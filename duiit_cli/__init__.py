"""DUIIT's command line, and the work behind each of its commands."""
