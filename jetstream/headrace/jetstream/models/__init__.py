"""The JSON of the JetStream API: models of what is asked, and functions that make what is answered."""
