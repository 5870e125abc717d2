"""The documentation as a site: it is built offline, has all pages, and needs nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_site_is_built(tmp_path: Path) -> None:
    """Without a broken link, page or heading; no page loads a script, style, font or picture of another host."""
    command = [sys.executable, str(ROOT / "docs" / "build.py"), "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    pages = list(tmp_path.rglob("*.html"))
    assert {page.stem for page in pages} >= {page.stem for page in (ROOT / "docs").glob("*.md")} | {"index"}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//[^"]*"', text) == [], page
        assert re.findall(r'<link[^>]+href="(?:https?:)?//[^"]*"', text) == [], page
    python = (tmp_path / "docs" / "python.html").read_text(encoding="utf-8")
    assert 'id="mos_recbole.experiment.run_experiment"' in python
    assert "--match-parameters" in (tmp_path / "docs" / "commands.html").read_text(encoding="utf-8")
