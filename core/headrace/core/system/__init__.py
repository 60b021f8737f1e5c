"""The system account: events about the server, and requests that it answers."""
