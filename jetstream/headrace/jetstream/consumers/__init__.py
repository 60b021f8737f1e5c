"""Consumers: what was delivered to whom, what is owed, and the ways of handing it out."""
