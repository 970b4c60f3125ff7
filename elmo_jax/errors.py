"""The exceptions for what a user can mend."""


class UserError(Exception):
    """A problem with input, configuration or the machine that the user can mend.

    The message names the offending value, the rule it breaks and the fix. The command line prints it
    as one line without a traceback and exits with status 2.
    """


class BusyError(UserError):
    """Another process is at work where this one wanted to: the same command may succeed later. Exit status 75."""
