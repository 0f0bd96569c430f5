"""How Sphinx builds the pages in docs/ as a site: `make site`."""

project = "Palimpsest"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "Palimpsest"
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}
exclude_patterns = ["results/*", "site/*"]
# Links to code and to other files outside this folder lead to files of the repository, not to pages.
suppress_warnings = ["myst.xref_missing"]
