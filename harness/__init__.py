"""The engine: groups, actions, claims, errors, verdicts, records, runs. Knows no library and no kernel."""
