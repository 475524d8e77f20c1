"""An executed notebook as one HTML file that opens from disk: `python -m gta.batch.pages NOTEBOOK PAGE`."""

import sys
from pathlib import Path

from bleach import ALLOWED_ATTRIBUTES, ALLOWED_TAGS
from nbconvert import HTMLExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from nbconvert.preprocessors.sanitize import SanitizeHTML
from traitlets.config import Config

from gta.files import write_atomically

TAGS = {"br", "del", "div", "h1", "h2", "h3", "h4", "hr", "p", "pre", "span", "style", "table", "tbody", "td", "th", "thead", "tr"}


def render(notebook: Path, template: str = "lab") -> str:
    """The notebook as sanitised HTML. It keeps no script of an output, loads no script, and shows only the last line of a
    progress bar.

    template: `lab` for a complete page; `basic` for the cells alone, which the site puts into a page of its own.
    """
    config = Config()
    config.SanitizeHTML.tags = sorted(TAGS | set(ALLOWED_TAGS))
    config.SanitizeHTML.attributes = {**ALLOWED_ATTRIBUTES, "*": ["class", "id", "border"]}
    exporter = HTMLExporter(config=config, template_name=template, embed_images=True)
    for script in ("require_js_url", "mathjax_url", "jquery_url", "mermaid_js_url", "mermaid_layout_elk_js_url"):
        setattr(exporter, script, "")
    for preprocessor in (SanitizeHTML, CoalesceStreamsPreprocessor):
        exporter.register_preprocessor(preprocessor, enabled=True)
    return exporter.from_filename(str(notebook))[0]


if __name__ == "__main__":
    write_atomically(Path(sys.argv[2]), render(Path(sys.argv[1])))
