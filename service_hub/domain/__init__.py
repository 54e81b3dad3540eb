"""Pure decisions: tables and functions without input or output."""
