"""Campaigns that try to break a server, each a command with a size, a time limit and a table as its result."""
