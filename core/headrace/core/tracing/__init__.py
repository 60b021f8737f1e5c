"""Message tracing: where a message goes, told in an event to whoever its headers or its account name."""
