"""Compare formulas for `math_reward`: `latex.py` runs this file as a program, which reads requests on stdin.

A request is one line of JSON: a limit in seconds of CPU time, the gold answer, and the answer. The reply is a line with
the reason of the verdict.

The process itself only imports, warms up and forks. Its fork compares. The system kills the fork when the limit is
over, even in the midst of a C function, and the next fork takes milliseconds. Both end with stdin, and so with the
trainer.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import resource
import signal
import sys
from typing import Any, Final

ADDRESS_SPACE: Final = 1 << 30  # bytes; sympy with all that it loads takes a tenth of them
# Formulas to compare before the first fork. The parser caches what it has learned, and sympy imports on demand, so a
# formula costs up to half a second of CPU time without them, and some 10 ms with them.
WARM_UP: Final = r"""
    \frac{\sqrt{2}}{2} | -\dfrac12\sqrt[3]{x} | (x+1)^2-\sin^2 x | x^{2}+2x+\cos^2 x | [0,1)\cup\{2\} | (-\infty,\infty)
    \{1,-2.5\} | (1,2,3) | \left(\frac12,3\right) | x\le 3 | y=2x-1 | 2x+3y=6 | x=1\text{ or }x=-3 | 1,2 | \text{even}
    \begin{pmatrix}1&2\\3&4\end{pmatrix} | \log_2 8+\ln e^{\pi} | 3+2i | |a|!+n! | 50\% | 90^\circ | 3\sqrt{13}\text{ m}
    2^{10}\cdot3^{-4} | \binom{5}{2} | \tan\frac{\pi}{4} | \frac{x^3-1}{x-1} | \sqrt{x^2+1} | 11_{2} | \pm 4 | abc+de
"""


@functools.lru_cache(maxsize=1024)  # the completions of a group share their gold answer
def read(formula: str) -> Any:
    r"""Return the formula as a sympy object, or None where it cannot be read.

    A unit is cut off only where it is written as text, as in `2\text{ t}`; otherwise `2t` would be 2 tons.
    """
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    units = re.search(r"\\(?:text|mathrm|mbox)", formula) is not None
    rules = NormalizationConfig(units=units, malformed_operators=True, nits=True)
    how = [LatexExtractionConfig(normalization_config=rules)]
    found = parse(f"${formula}$", how, fallback_mode="no_fallback", parsing_timeout=None)
    return found[0] if found else None


def compare(gold: str, answer: str) -> str:
    """Return right, wrong, or not_a_number where either formula cannot be read.

    A list is never one value: the answer `4, 4` is not the gold 4.
    """
    from math_verify import verify
    from sympy import Set, Tuple
    from sympy.logic.boolalg import Boolean

    expected, given = read(gold), read(answer)
    if expected is None or given is None:
        return "not_a_number"
    if isinstance(given, Set | Tuple) and not isinstance(expected, Set | Tuple | Boolean):
        return "wrong"
    return "right" if verify(expected, given, timeout_seconds=None) else "wrong"


def serve(reply: int) -> None:
    """Answer requests on the descriptor `reply` until stdin ends: this runs in the fork.

    It limits the memory of the process. It never returns: at the end of stdin the process exits with status 0. When a
    request exceeds its time limit, the system kills the process, and this function writes no reply.
    """
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = ADDRESS_SPACE if hard == resource.RLIM_INFINITY else min(ADDRESS_SPACE, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    for line in sys.stdin.buffer:
        limit_s, gold, answer = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, limit_s)  # its signal has no handler, and so kills
        reason = compare(gold, answer)
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(reply, f"{reason}\n".encode())
    os._exit(0)


def main() -> None:
    """Warm up, then fork a process to serve, and another one whenever an answer has killed it.

    For such an answer the reply is `too_long`. Returns when stdin has ended, or when the fork ended in another way. All
    else that is written to stdout goes to stderr.
    """
    logging.disable()  # math-verify warns that it has no time limit of its own
    # Replies go to the old stdout; what sympy may print goes to stderr.
    reply = os.dup(1)
    os.dup2(2, 1)
    first, *others = (formula.strip() for formula in WARM_UP.strip().replace("\n", " | ").split(" | "))
    for formula in others:
        compare(formula, formula)
        compare(first, formula)
    while True:
        fork = os.fork()
        if fork == 0:
            serve(reply)  # never returns
        _, status = os.waitpid(fork, 0)
        # The fork died of the time limit, the stack or the memory: the answer is to blame.
        if -os.waitstatus_to_exitcode(status) in (signal.SIGPROF, signal.SIGSEGV, signal.SIGABRT):
            os.write(reply, b"too_long\n")
        else:
            # Stdin ended, or the fork died through no fault of the answer: `latex.py` finds no reply, and starts anew.
            return


if __name__ == "__main__":
    main()
