"""Pure decisions of the provider: no input, no output, no clock."""
