"""The commands: each file declares one, whose work is done elsewhere. A command is imported when it runs."""
