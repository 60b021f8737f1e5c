"""The server's composition root, the command line, and what inspects and measures a server."""
