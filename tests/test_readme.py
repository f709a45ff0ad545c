"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from robo_offline.cli import VERBS, main

README = (Path(__file__).parents[1] / "README.md").read_text()


def smaller(code: str, replacements: dict[str, str]) -> str:
    for shown, tiny in replacements.items():
        assert shown in code
        code = code.replace(shown, tiny)
    return code


def test_the_lines_of_python_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    monkeypatch.setenv("ROBO_OFFLINE_CACHE", str(tmp_path / "cache"))
    pendulum = ["env=gymnasium", "env.id=Pendulum-v1", "env.horizon=10"]
    assert main(["collect", *pendulum, "policy=random", "episodes=3", "name=ten-v0"]) == 0
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.splitlines()) <= 10
    code = smaller(
        code,
        {
            "lift/human-v0": "ten-v0",
            '"robosuite/lift"': '"gymnasium", id="Pendulum-v1", horizon=10',
            "runs/mine": str(tmp_path / "run"),
            "offline(steps=10_000)": "offline(steps=5)",
            "online(steps=20_000)": "online(steps=20, warmup=0)",
        },
    )
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["policy"].act(names["data"].steps["observation"][0].numpy()).shape == (1,)
    assert main(["evaluate", str(tmp_path / "run"), "--workers", "1", "--episodes", "2"]) == 0
    assert "success" in capsys.readouterr().out


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"robo-offline (\w+)", README))))
def test_every_verb_it_names_is_there(verb):
    assert verb in VERBS
