import nbformat

from gta.batch.pages import render


def test_a_page_keeps_its_prose_and_tables_and_no_script(tmp_path):
    hostile = "<b>bold</b><table><tr><td>7</td></tr></table><script>alert(1)</script><img src=x onerror=alert(2)>"
    outputs = [
        nbformat.v4.new_output("display_data", {"text/html": hostile}),
        nbformat.v4.new_output("stream", name="stderr", text="10%\r"),
        nbformat.v4.new_output("stream", name="stderr", text="100%\n"),
        nbformat.v4.new_output("stream", name="stdout", text="</pre><script>alert(3)</script>"),
    ]
    cells = [nbformat.v4.new_markdown_cell("# A heading\n\n<script>alert(4)</script>"), nbformat.v4.new_code_cell("1", outputs=outputs)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "n.ipynb")
    page = render(tmp_path / "n.ipynb")
    assert "<h1" in page and "<td>7</td>" in page
    assert not any(f"<script>alert({i})" in page for i in range(5)) and "<img src=" not in page
    assert "100%" in page and "10%\r" not in page
    assert 'src="http' not in page and "cdnjs" not in page
