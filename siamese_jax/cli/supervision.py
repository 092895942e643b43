"""Telling the user why a process among several ended.

JAX ends a process whose peer died by SIGABRT, from within C++: no Python code gets the chance to say what to do. So the
work is done in a child, and its parent, which never imports JAX, speaks when the child has ended like that.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

from siamese_jax.cli.console import INTERRUPTED, MISTAKES, NOT_ANALYSED, PEER_LOST, complain

BROKEN = ("UNKNOWN: ", "INTERNAL: ", "UNAVAILABLE: ", "ABORTED: ", "CANCELLED: ", "DEADLINE_EXCEEDED: ")
"""How JAX's word of a broken collective begins. The fast path of `jit` raises it as a ValueError."""


def supervised(work: Callable[[], int], *, advice: str) -> int:
    """The exit code of `work`, done in a child process; `PEER_LOST`, after `advice`, if the child was ended.

    SIGTERM to this process goes on to the child; a child whose parent is gone ends. Call it before JAX is imported.
    """
    alive, held = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(held)
        threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()
        _end(work)
    os.close(alive)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the child by itself
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # there is nobody left to tell
    if code in (PEER_LOST, -signal.SIGABRT):
        complain(advice if code > 0 else f"{advice} (ended by SIGABRT)")
        return PEER_LOST
    if code < 0:  # its own end: the kernel's, for want of memory, or a queue's
        complain(f"this process of the run was ended by {signal.Signals(-code).name}")
        return 128 - code
    return code


def _end(work: Callable[[], int]) -> NoReturn:
    code = 1
    try:
        code = work()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except (NotImplementedError, RecursionError):  # RuntimeErrors, but ours
        traceback.print_exc()
    except (RuntimeError, *MISTAKES) as error:
        code = _code_of(error)
        complain(error if code == NOT_ANALYSED else str(error).partition("\n")[0])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Past JAX's own way out, which waits for all other processes: one that failed would keep them waiting.
        os._exit(code)


def _code_of(error: Exception) -> int:
    if isinstance(error, RuntimeError | TimeoutError):  # a collective of JAX or a barrier of Orbax that failed
        return 1 if "RESOURCE_EXHAUSTED" in str(error) else PEER_LOST
    return PEER_LOST if str(error).startswith(BROKEN) else NOT_ANALYSED


def _end_with_parent(alive: int) -> None:
    os.read(alive, 1)  # comes back when the last holder of the other end is gone
    os._exit(PEER_LOST)
