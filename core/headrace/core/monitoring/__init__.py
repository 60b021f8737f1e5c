"""What a server shows of itself over HTTP. No sockets, no clock: requests and records in, bytes out."""
