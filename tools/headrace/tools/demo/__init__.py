"""`headrace demo`: a server killed in the middle of its work, and the books kept about it."""
