"""LitServe. With the argument `batched` it gathers requests for a millisecond."""

import sys

import litserve
from digits import draw, encode, picture
from fastapi import Response

BATCH = 16


class One(litserve.LitAPI):
    def setup(self, device: str) -> None:
        pass

    def decode_request(self, request: dict) -> tuple[int, int, int]:
        return request["slot"], request["seed"], request["count"]

    def predict(self, wanted: tuple[int, int, int]) -> bytes:
        return picture(*wanted)

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="image/png")


class Batched(One):
    def predict(self, wanted: list[tuple[int, int, int]]) -> list[bytes]:
        slots = [slot for slot, _, count in wanted for _ in range(count)]
        images = draw(slots, [seed + place for _, seed, count in wanted for place in range(count)])
        encoded, first = [], 0
        for _, _, count in wanted:
            encoded.append(encode(images[first : first + count]))
            first += count
        return encoded

    def batch(self, inputs: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        return inputs

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output


if __name__ == "__main__":
    is_batched = sys.argv[2:] == ["batched"]
    api = Batched(max_batch_size=BATCH, batch_timeout=0.001) if is_batched else One()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False, log_level="error")
