"""What the exit status of ``elmo`` says: for people in ``--help`` and docs/running.md, for scripts that start runs."""

COMPLETE = 0
CRASH = 1
USER_ERROR = 2
BUSY = 75
INTERRUPTED = 130
TERMINATED = 143

MEANINGS = {
    COMPLETE: "complete",
    CRASH: "an error of the program itself, with its traceback: please report it",
    USER_ERROR: "a mistake to mend, said in one line; what was done before is kept",
    BUSY: "another process trains in this run directory: try again later",
    INTERRUPTED: "stopped by Ctrl-C; what was done is saved, and the same command goes on",
    TERMINATED: "stopped by SIGTERM; what was done is saved, and the same command goes on",
}

EXPLANATION = "exit status:\n" + "\n".join(f"  {status:<3}  {meaning}" for status, meaning in MEANINGS.items())
