"""How commands ask the operator: a question that Ctrl-C or a missing terminal answers with no."""

import signal

import typer


def ask(question: str) -> bool:
    """Return whether the operator says yes."""
    # The event loop has taken Ctrl-C for itself; during the question it belongs to the operator.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(question, default=False)
    except (typer.Abort, KeyboardInterrupt):
        return False
    finally:
        signal.signal(signal.SIGINT, former)
