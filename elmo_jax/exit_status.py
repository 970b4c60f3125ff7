"""What the exit status of ``elmo`` says."""

COMPLETE = 0
USER_ERROR = 2
INTERRUPTED = 130
TERMINATED = 143

EXPLANATION = """\
exit status: 0 complete; 2 a mistake to mend, said in one line; 130 or 143 stopped by Ctrl-C or SIGTERM, saved"""
