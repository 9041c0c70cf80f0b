"""Plugin adapters: one small file per library."""
