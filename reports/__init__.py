"""Records in, pictures and documents out: ``html.render_html`` and ``markdown.render_markdown``."""
