"""What helps while one types: completion in a real shell, suggestions for what is misspelt."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.site import execute, is_sentence

BIN = Path(sys.executable).parent
#: Asks bash for what Tab would offer at the end of a line, as its completion machinery does.
SCRIPT = """
eval "$(register-python-argcomplete execution-worker)"
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
read -ra COMP_WORDS <<< "$1"
[[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
function=$(complete -p execution-worker | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function" execution-worker "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def _offered(line: str, cwd: Path) -> set[str]:
    done = subprocess.run(
        ["bash", "--norc", "-c", SCRIPT, "bash", line],
        env={"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(cwd)},
        cwd=cwd, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return {word.strip() for word in done.stdout.splitlines() if word.strip()}


@pytest.mark.parametrize(
    ("line", "some", "none"),
    [
        ("execution-worker ", {"run", "submit", "flatten", "schema"}, {"nonsense"}),
        ("execution-worker po", {"positions"}, {"status"}),
        ("execution-worker tail --", {"--since", "--no-follow", "--config"}, {"--reason"}),
        ("execution-worker submit --st", {"--stop-price", "--stop-loss", "--strict"}, {"--tif"}),
        ("execution-worker submit --type st", {"stop", "stop_limit"}, {"limit"}),
        ("execution-worker dead ", {"list", "replay"}, {"run"}),
        ("execution-worker dead list --", {"--json", "--reason"}, {"--wait"}),
        ("execution-worker --config ", {"worker.toml"}, {"run"}),
    ],
)
def test_tab_offers_what_may_come(
    line: str, some: set[str], none: set[str], tmp_path: Path
) -> None:
    """Also what only a command's own module knows, which is imported for it."""
    (tmp_path / "worker.toml").write_text("")
    offered = _offered(line, tmp_path)
    assert some <= offered
    assert not none & offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str, tmp_path: Path) -> None:
    """As the README has it; where the shell is installed, it reads the script without complaint."""
    done = subprocess.run(
        [BIN / "register-python-argcomplete", "--shell", shell, "execution-worker"],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert "execution-worker" in done.stdout
    if installed := shutil.which(shell):
        script = tmp_path / "completion"
        script.write_text(done.stdout)
        subprocess.run([installed, "-n", script], timeout=30, check=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["postions"], "'postions' is no command; did you mean positions?"),
        (["dead-letters"], "did you mean dead?"),
        (["frobnicate"], "'frobnicate' is no command; --help lists them"),
        (["status", "--wach"], "unrecognized arguments: --wach; did you mean --watch?"),
        (["submit", "--stoploss=3"], "did you mean --stop-loss?"),
        (["submit", "--type", "limt"], "did you mean limit?"),
        (["dead", "lst"], "did you mean list?"),
        (["halt", "--reson", "x"], "there is no --reson; did you mean --reason?"),
        (["tail", "order"], "did you mean orders?"),
    ],
)
def test_what_is_misspelt_is_answered_with_what_was_meant(arguments: list[str], says: str) -> None:
    """Wrong usage, with the usage of the command that was meant to run."""
    done = execute(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: execution-worker")
    assert says in done.stderr


def test_a_configuration_key_is_found_by_its_words(tmp_path: Path) -> None:
    """In the file and in the environment: exit 78, and the key that was meant."""
    file = tmp_path / "worker.toml"
    file.write_text("[risk]\nmax_positions = 3\n")
    for environ in ({"WORKER_CONFIG": str(file)}, {"WORKER_RISK__MAX_POSITIONS": "3"}):
        done = execute("config", environ=environ)
        assert done.returncode == 78
        assert is_sentence(done.stderr)
        assert "did you mean risk.max_concurrent_positions?" in done.stderr
