"""Answers the runner: for each token on stdin, one line on stdout."""

import os
import sys

issuer, audience, jwks_url = os.environ["ISSUER"], os.environ["AUDIENCE"], os.environ["JWKS"]


def lines(check):
    """Writes "ok", or "no" and the reason: what check raises is its refusal."""
    print("ready", flush=True)
    for token in sys.stdin:
        try:
            check(token.rstrip("\n"))
            print("ok", flush=True)
        except Exception as error:  # whatever a library raises, the API behind it is not reached
            print("no", type(error).__name__, " ".join(str(error).split()), flush=True)
