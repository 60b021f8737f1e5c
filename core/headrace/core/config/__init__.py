"""The configuration file: its grammar, its models, and the options that come out."""
