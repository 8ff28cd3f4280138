"""What every page carries: style, scripts, and the policy that lets only them run.

The policy forbids the network and every script but the two a page carries, so that nothing a model
or a data set wrote can act, even if it got past the escaping. Plotly is carried compressed: it
takes two megabytes instead of five, and leaves room for what the model said.
"""

import base64
import hashlib
import zlib
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from refusalscope.report.visible_text import visible_html, visible_plain
from refusalscope.report.wording import interval, number, percent, position_name, thousands

_PACKAGE = "refusalscope.report"


def page_parts() -> dict[str, Markup]:
    """Style and scripts as they are placed on the page, and the policy that lets only them run."""
    script, plotly = _template_text("page.js"), get_plotlyjs()
    hashes = " ".join(_script_hash(text) for text in (plotly, script))
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    # All three are ours or plotly's; nothing of a run is in them.
    return {
        "style": Markup(_template_text("page.css")),
        "dark": Markup(_template_text("dark.css")),
        "script": Markup(script),
        "plotly": Markup(
            base64.b64encode(zlib.compress(plotly.encode("utf-8"), 9)).decode("ascii")
        ),
        "policy": Markup(policy),
    }


def template_style(name: str) -> Markup:
    """A style sheet of the templates, for a page that needs more than the common one."""
    return Markup(_template_text(name))


def _template_text(name: str) -> str:
    return (files(_PACKAGE) / "templates" / name).read_text("utf-8")


def _script_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def environment() -> Environment:
    """Templates with escaping on, undefined names an error, and the filters of our wording."""
    templates = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        visible=visible_html,
        plain=visible_plain,
        percent=percent,
        interval=interval,
        number=number,
        position=position_name,
        thousands=thousands,
    )
    return templates
