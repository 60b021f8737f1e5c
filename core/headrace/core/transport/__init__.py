"""The only place with sockets, and an in-memory stand-in for virtual time."""
