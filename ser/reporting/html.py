"""An HTML page that stands alone in one file."""

from base64 import b64encode
from pathlib import Path

from jinja2 import Environment, PackageLoader


def render_page(template: str, **values: object) -> str:
    """Fill a template of this package; what the values hold is escaped."""
    environment = Environment(loader=PackageLoader("ser.reporting", "templates"), autoescape=True)
    return environment.get_template(template).render(**values)


def embed_picture(picture: Path) -> str:
    """Return a picture as text that stands in the page itself."""
    return b64encode(picture.read_bytes()).decode()
