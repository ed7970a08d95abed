"""Sans-IO machines of the line protocol and its one verification procedure."""
