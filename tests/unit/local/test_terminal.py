"""The output of local commands."""

import pytest

from local.terminal import WIDTH, Terminal


def test_a_document_fits_into_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().print_json({"final_output": "word " * 40, "[red]": "no markup"})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) == WIDTH
    assert "…" in lines[1]
    assert '    "[red]": "no markup"' in lines
