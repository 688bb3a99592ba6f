"""The floor: a Starlette application that answers JSON and does nothing else."""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

BODY = {"id": "0192c0de-0000-7000-8000-000000000000", "name": "agent", "version": 1, "tools": []}


async def show(_: Request) -> JSONResponse:
    """A small object."""
    return JSONResponse(BODY)


app = Starlette(routes=[Route("/", show)])

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
