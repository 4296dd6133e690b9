"""Which methods are compared on which splits, as tasks."""
