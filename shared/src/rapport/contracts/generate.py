"""Writes the reference of all events: `python -m rapport.contracts.generate [--check]`.

`docs/reference/` gets the catalogue, a JSON Schema per type and the AsyncAPI document;
`tests/contracts/samples/` a sample of each type that has none yet. Samples are never rewritten.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rapport.contracts.asyncapi import document
from rapport.contracts.catalogue import OTHER_SYSTEMS, collect
from rapport.contracts.registry import SERVICES

if TYPE_CHECKING:
    from rapport.contracts.catalogue import Catalogue, Entry

COMMAND = "python -m rapport.contracts.generate"
REFERENCE = Path("docs/reference")
SCHEMAS = REFERENCE / "schemas"
SAMPLES = Path("tests/contracts/samples")

INTRODUCTION = f"""# Events

Made by `{COMMAND}` from the classes in `rapport.contracts`; do not edit.

Topics carry binary-mode CloudEvents: what is shown here is the record's body, the attributes are
its headers (`asyncapi.json` lists them). Ids are UUIDs, times RFC 3339 with offset, money whole
minor units with an ISO 4217 code. Fields that stand at their default are left out on the wire.
Within a version fields are only added, and unknown ones must be ignored.
"""


def files(catalogue: Catalogue) -> dict[Path, str]:
    """Return path, seen from the checkout's root, and text of every generated file."""
    made = {
        REFERENCE / "events.md": _events_page(catalogue),
        REFERENCE / "asyncapi.json": _json(document(catalogue)),
    }
    for entry in catalogue.entries:
        made[SCHEMAS / f"{entry.type}.json"] = _json(catalogue.schema_of(entry))
    return made


def stale(root: Path) -> list[str]:
    """Return what is wrong below `root`: files that differ, are missing or have no class."""
    catalogue = collect()
    made = files(catalogue)
    complaints = [
        f"{path} is {'not what the classes say' if (root / path).exists() else 'missing'}"
        for path, text in made.items()
        if not (root / path).exists() or (root / path).read_text(encoding="utf-8") != text
    ]
    left_over = {path.relative_to(root) for path in (root / SCHEMAS).glob("*.json")} - made.keys()
    complaints += [f"{path} belongs to no class" for path in sorted(left_over)]
    missing = [entry.type for entry in catalogue.entries if not _sample(root, entry).exists()]
    return complaints + [f"{SAMPLES} has no sample of {event_type}" for event_type in missing]


def write(root: Path) -> None:
    """Write every file below `root`, remove schemas without a class, add missing samples."""
    catalogue = collect()
    made = files(catalogue)
    for path in (root / SCHEMAS).glob("*.json"):
        if path.relative_to(root) not in made:
            path.unlink()
    for path, text in made.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    for entry in catalogue.entries:
        sample = _sample(root, entry)
        if not sample.exists():
            sample.parent.mkdir(parents=True, exist_ok=True)
            sample.write_text(_json(entry.example), encoding="utf-8")


def _sample(root: Path, entry: Entry) -> Path:
    return root / SAMPLES / f"{entry.type}.json"


def _json(value: Any) -> str:  # noqa: ANN401  JSON
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _events_page(catalogue: Catalogue) -> str:
    parts = [INTRODUCTION]
    for owner in (*SERVICES, OTHER_SYSTEMS):
        entries = [entry for entry in catalogue.entries if entry.owner == owner]
        parts.append(f"## {owner}\n\nTopic `{entries[0].stream}`, key `{entries[0].key}`.\n")
        parts.append("| type | what |\n|-|-|\n" + "".join(map(_summary, entries)))
        parts += [_section(entry) for entry in entries]
    return "\n".join(parts)


def _summary(entry: Entry) -> str:
    anchor = entry.type.replace(".", "")
    return f"| [`{entry.type}`](#{anchor}) | {entry.text.partition(chr(10))[0]} |\n"


def _section(entry: Entry) -> str:
    rows = "".join(
        f"| `{field.name}` | {field.type} | {'yes' if field.required else ''} | {field.text} |\n"
        for field in entry.fields
    )
    return (
        f"### {entry.type}\n\n{entry.text}\n\n"
        f"Owner {entry.owner}, key `{entry.key}`, [JSON Schema](schemas/{entry.type}.json).\n\n"
        f"| field | type | required | |\n|-|-|-|-|\n{rows}\n"
        f"```json\n{_json(entry.example)}```\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or with `--check` name what is stale and return 1."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    parser.add_argument("--root", type=Path, default=Path(), help="the checkout")
    options = parser.parse_args(arguments)
    if not options.check:
        write(options.root)
        return 0
    complaints = stale(options.root)
    for complaint in complaints:
        sys.stderr.write(f"contracts: {complaint}; run {COMMAND}\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
