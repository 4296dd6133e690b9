"""Running the tasks of an experiment: here, in processes, or as cluster jobs."""
