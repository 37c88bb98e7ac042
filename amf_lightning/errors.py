"""The one exception that means "what you gave is wrong", told apart from a bug of ours."""


class InputError(Exception):
    """Something given by the user cannot be used.

    The message says what is wrong, where, and what to do. The command line prints it without a
    traceback and exits with code 2; a program that uses the package as a library can catch it.
    """
