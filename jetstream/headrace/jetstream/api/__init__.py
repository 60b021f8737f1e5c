"""The JetStream API: requests on `$JS.API.>`, their rules, and what each endpoint does."""
