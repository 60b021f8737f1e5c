"""Headrace for tests: a whole server in virtual time, from one seed."""
