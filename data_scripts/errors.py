"""The one exception that data preparation raises for its users."""


class DataError(ValueError):
    """Something about the data or its options that the user can mend; the message says what and how."""
