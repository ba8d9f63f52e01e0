"""Write the generated pages: ``python -m docs.generator``, from the repository's root."""

from __future__ import annotations

from docs.generator.pages import generated


def main() -> None:
    """Write those that changed, and say which."""
    for path, text in generated().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
