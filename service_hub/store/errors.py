"""What the store says when a database cannot be opened."""


class DatabaseUnusableError(Exception):
    """The database cannot be used; the message names the cause and the remedy."""


class DatabaseInUseError(Exception):
    """A hub has the database open; the message says what to do."""
