"""`duiit data check`: what a data folder holds, and what is wrong with it."""
