"""The one error of this server: a status and a sentence.

Every refusal leaves as `{"error": "<sentence>"}`, which is what clients of Ollama read: as the
body of an HTTP error, or as a line of a stream that has already begun.
"""


class ApiError(Exception):
    """Answered with `status` and `{"error": message}`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
