"""The command line: one file per command, and the console that talks to people."""
