"""The command line in this process: a new interpreter for each command would import torch and the libraries again."""

import contextlib
import io
import os
import subprocess
import sys
import warnings
from unittest import mock


def run(*words, cwd=None, env=None):
    """What a process of its own would have given: exit code, standard output and standard error.

    Args:
        words: arguments of ``equiharness``.
        cwd: the folder to run in; this one by default.
        env: environment variables on top of those of this process.
    """
    import torch
    from equiharness.cli import main
    from equiharness.harness.runs import checks

    checks._claim.cache_clear()  # it knows claims by their names, and tests register several adapters of one name
    out, err, threads = io.StringIO(), io.StringIO(), torch.get_num_threads()
    words = ["equiharness", *map(str, words)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", words))
        stack.enter_context(mock.patch.dict(os.environ, env or {}))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # a process of its own would only print them
        if cwd is not None:
            stack.enter_context(contextlib.chdir(cwd))
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        finally:
            torch.set_num_threads(threads)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
