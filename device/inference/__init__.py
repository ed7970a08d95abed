"""From features and pictures to a decision: runtime, branches, head, decision."""
