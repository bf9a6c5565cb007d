from pathlib import Path

ROOT = Path(__file__).parents[2]
HOWTO = ROOT / "docs" / "howto" / "test-against-rapport.md"
EXAMPLE = ROOT / "tests" / "e2e" / "test_against_rapport.py"


def test_the_example_is_the_file_that_runs() -> None:
    assert f"```python\n{EXAMPLE.read_text()}```" in HOWTO.read_text()
