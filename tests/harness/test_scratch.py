"""The folder for temporary files that a job has, where there is a mount namespace."""

import pytest

from evoprompt.errors import SandboxError
from evoprompt.harness import Harness, Limits
from evoprompt.harness.inside import lockdown
from evoprompt.harness.sandbox.pool import TIERS

USES = {
    "a named file": "with tempfile.NamedTemporaryFile('w+') as file:\n"
    "  file.write('four')\n  file.seek(0)\n  return len(file.read())",
    "a file without a name": "with tempfile.TemporaryFile() as file:\n"
    "  file.write(b'12345')\n  file.truncate(4)\n  return file.tell() - 1",
    "a folder": "with tempfile.TemporaryDirectory() as folder:\n  path = os.path.join(folder, 'a')\n"
    "  open(path, 'w').close()\n  os.mkdir(folder + '/b')\n  os.replace(path, folder + '/b/c')\n"
    "  return len(os.listdir(folder + '/b')) + 3",
    "a path of its own": "path = os.path.join(tempfile.gettempdir(), 'x')\n"
    "with open(path, 'w') as file: file.write('1234')\nreturn os.path.getsize(path)",
    "an empty one at the start": "return len(os.listdir(tempfile.gettempdir())) + 4",
}
FILLS = """
import os, tempfile
def f(x):
    top = tempfile.gettempdir()
    if os.listdir(top):
        return "not empty"
    written = 0
    try:
        while True:
            with open(f"{top}/{written}", "wb") as file:
                file.write(bytes(1 << 20))
            written += 1
    except OSError:
        pass
    path = top
    try:
        while True:
            path += "/" + "d" * 200
            os.mkdir(path, 0o300)
    except OSError:
        pass
    return written
"""


@pytest.fixture(scope="module")
def harness():
    with Harness(limits=Limits(cpu_seconds=4.0), processes=1) as built:
        built.sandbox.tiers = TIERS[:1]
        try:
            assert built.tier
        except SandboxError as e:
            pytest.skip(str(e))
        yield built


def run(harness, source, test="assert f(2) == 4"):
    result = harness.check_asserts(source, "f", [test])
    return result.status, [case.observed for case in result.cases]


@pytest.mark.parametrize("use", USES)
def test_tests_that_make_temporary_files_work(harness, use):
    body = USES[use].replace("\n", "\n    ")
    assert run(harness, f"import os, tempfile\ndef f(x):\n    {body}") == ("passed", ["returned 4"])


def test_it_is_small_and_empty_for_the_next_job(harness):
    for _ in range(lockdown.SCRATCHES + 2):
        assert run(harness, FILLS, "assert f(0) == 16") == ("passed", ["returned 16"])


def test_nothing_of_a_job_is_seen_beside_it(harness):
    """Nor can it be guessed: other folders can't be opened."""
    look = "import os\ndef f(x):\n    own = os.environ['TMPDIR']\n    open(own + '/mine', 'w').close()\n    seen = 0\n"
    look += "    for n in range(100):\n        path = os.path.dirname(own) + f'/{n}'\n"
    look += "        try: seen += bool(os.listdir(path))\n        except OSError: pass\n"
    look += "        try: open(path + '/mine').close(); seen += 1\n        except OSError: pass\n    return seen"
    limits = Limits()
    with harness.sandbox.open(limits) as beside:
        assert (
            beside.ask("prepare", "import os\nopen(os.environ['TMPDIR'] + '/mine', 'w').close()", (), ()).kind == "done"
        )
        assert run(harness, look, "assert f(0) == 2") == ("passed", ["returned 2"])


def test_a_folder_is_emptied_whatever_is_in_it(tmp_path):
    deep = tmp_path
    for name in ("a", "b", "c"):
        deep = deep / name
        deep.mkdir()
        (deep / "file").touch()
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "x").mkdir(mode=0)
    (tmp_path / "closed").chmod(0)
    lockdown.clear(str(tmp_path))
    assert [*tmp_path.iterdir()] == []
