"""Compare formulas for `math_reward`: `latex_process.py` runs this file as a program, which reads requests on stdin.

A request is one line of JSON: a limit in seconds of CPU time, a tolerance, the gold's node, and the answer's node or
null. Nodes are those of `latex_tree.py`, and `latex_compare.py` compares them. The reply is a line with the reason of
the verdict; without an answer, it tells whether the gold can be read (`right`).

The process itself only imports, warms up and forks. Its fork compares. The system kills the fork when the limit is
over, even in the midst of a C function, and the next fork takes milliseconds. Both end with stdin, and so with the
trainer.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from typing import Final

from grpo_colab.rewards.latex_compare import compare

ADDRESS_SPACE: Final = 1 << 30  # bytes; sympy with all that it loads takes a tenth of them
# Formulas to compare before the first fork. The parser caches what it has learned, and sympy imports on demand, so a
# formula costs up to half a second of CPU time without them, and some 10 ms with them.
WARM_UP: Final = r"""
    \frac{\sqrt{2}}{2} | -\dfrac12\sqrt[3]{x} | (x+1)^2-\sin^2 x | x^{2}+2x+\cos^2 x | [0,1)\cup\{2\} | (-\infty,\infty)
    \mathbb{R}\setminus\{0\} | -3\frac12 | 2.5 | 3x^2+2i | e^{i\pi} | \emptyset | \lfloor n/2\rfloor | \sum_{k=1}^n k
    \begin{pmatrix}1&2\\3&4\end{pmatrix} | \log_2 8+\ln e^{\pi} | 3+2i | |a|!+n! | 90^\circ | 3\sqrt{13}
    2^{10}\cdot3^{-4} | \binom{5}{2} | \tan\frac{\pi}{4} | \frac{x^3-1}{x-1} | \sqrt{x^2+1} | x_{1} | abc+de | f(x)
"""
GOLD_REREAD_LIMIT_S: Final = 2.0  # of CPU time, to read a gold answer again in a new fork


def serve(reply: int) -> None:
    """Answer requests on the descriptor `reply` until stdin ends: this runs in the fork.

    It limits the memory of the process. It never returns: at the end of stdin the process exits with status 0. When a
    request exceeds its time limit, the system kills the process, and this function writes no reply. The time to read a
    gold answer, which each fork does anew, does not count as the answer's.
    """
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = ADDRESS_SPACE if hard == resource.RLIM_INFINITY else min(ADDRESS_SPACE, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    for line in sys.stdin.buffer:
        limit_s, tolerance, gold, answer = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, GOLD_REREAD_LIMIT_S)  # its signal has no handler, and so kills
        if answer is not None:
            compare(gold, None)
        signal.setitimer(signal.ITIMER_PROF, limit_s)
        reason = compare(gold, answer, tolerance)
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
        compare(["leaf", f"{formula}+1"], ["leaf", f"1+{formula}"])
        compare(["leaf", first], ["leaf", formula])
    for one, other in ((r"\frac{2}{4}", r"\frac12"), ("(x+1)^2", "x^2+2x+1"), (r"\sqrt{8}", r"2\sqrt{2}")):
        if compare(["leaf", one], ["leaf", other]) != "right":  # no answer could be, then
            raise RuntimeError(f"math-verify, as it is installed, does not find {one} equal to {other}")
    line = ["equation", "", "", [["leaf", "2x+4y-3"], ["leaf", "0"]]]
    solved = ["equation", "y", "letter", [["leaf", "y"], ["leaf", "-x/2+3/4"]]]
    compare(line, solved)
    compare(solved, line)
    below = ["relation", ["<", "\\le"], [["leaf", "1"], ["leaf", "x"], ["leaf", "2"]]]
    compare(["tuple", "(]", [["leaf", "1"], ["leaf", "2"]]], below)
    while True:
        fork = os.fork()
        if fork == 0:
            serve(reply)  # never returns
        _, status = os.waitpid(fork, 0)
        # The fork died of the time limit, the stack or the memory: the answer is to blame.
        if -os.waitstatus_to_exitcode(status) in (signal.SIGPROF, signal.SIGSEGV, signal.SIGABRT):
            os.write(reply, b"too_long\n")
        else:
            # Stdin ended, or the fork died through no fault of the answer: `latex_process.py` finds no reply, and
            # starts anew.
            return


if __name__ == "__main__":
    main()
