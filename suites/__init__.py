"""The properties: each turns a claim into a result."""
