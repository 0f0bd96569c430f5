"""A plain FastAPI application, served by uvicorn with httptools and uvloop."""

import sys

import uvicorn
from digits import picture
from fastapi import FastAPI, Response

application = FastAPI()


@application.get("/images/{slot}/{seed}.png")
async def image(slot: int, seed: int, count: int = 1) -> Response:
    return Response(picture(slot, seed, count), media_type="image/png")


if __name__ == "__main__":
    uvicorn.run(
        application,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="error",
    )
