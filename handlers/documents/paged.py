"""The reader of PDF files: the text of each page, under a heading for the page.

A PDF is a program for placing glyphs, and the files are often hostile, so everything that
`pypdf` may raise becomes one clear refusal. Pictures are not read: a scan has no text.
"""

import io
import logging

from pypdf import PdfReader

from handlers.documents.recognition import UnreadableDocument
from handlers.documents.sections import Heading

PDF_PAGES_MAX = 500
PDF_PAGE_CONTENT_BYTES_MAX = 8 * 1024 * 1024
PDF_TEXT_CHARACTERS_MAX = 4_000_000


def pdf_text(data: bytes) -> tuple[str, list[Heading], str | None]:
    """The text of a PDF, a heading for each page, and the title of its metadata."""
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = PdfReader(io.BytesIO(data))
        _refuse_locked(reader)
        return (*_pages(reader), _title(reader))
    except UnreadableDocument:
        raise
    except (Exception, RecursionError) as failure:
        reason = f"{type(failure).__name__}: {failure}"[:200]
        raise UnreadableDocument(f"The PDF is damaged or hostile ({reason}).") from failure


def _refuse_locked(reader: PdfReader) -> None:
    if reader.is_encrypted and not reader.decrypt(""):
        raise UnreadableDocument("The PDF is encrypted and needs a password.")
    if len(reader.pages) > PDF_PAGES_MAX:
        raise UnreadableDocument(f"The PDF has more than {PDF_PAGES_MAX} pages.")


def _pages(reader: PdfReader) -> tuple[str, list[Heading]]:
    text, headings = "", []
    for number, page in enumerate(reader.pages, start=1):
        contents = page.get_contents()
        if contents is not None and len(contents.get_data()) > PDF_PAGE_CONTENT_BYTES_MAX:
            raise UnreadableDocument(f"Page {number} of the PDF unpacks to too many bytes.")
        page_text = page.extract_text().replace("\x00", " ").strip()
        headings.append(Heading(1, f"Page {number}", len(text), len(text)))
        text += page_text + "\n\n"
        if len(text) > PDF_TEXT_CHARACTERS_MAX:
            raise UnreadableDocument("The PDF holds too much text.")
    if not text.strip():
        raise UnreadableDocument("The PDF holds no text (it may be a scan).")
    return text, headings


def _title(reader: PdfReader) -> str | None:
    title = reader.metadata.title if reader.metadata else None
    return str(title).strip() or None if title else None
