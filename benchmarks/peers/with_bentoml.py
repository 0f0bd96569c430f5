"""A BentoML service, which `bentoml serve` runs. `Batched` draws what waits together."""

import base64

import bentoml
from digits import draw, encode, picture


@bentoml.service(workers=1, traffic={"timeout": 30})
class One:
    @bentoml.api
    async def image(self, slot: int, seed: int, count: int) -> str:
        return base64.b64encode(picture(slot, seed, count)).decode()


@bentoml.service(workers=1, traffic={"timeout": 30})
class Batched:
    @bentoml.api(batchable=True, max_batch_size=16, max_latency_ms=1000)
    async def image(self, wanted: list[list[int]]) -> list[str]:
        slots = [slot for slot, _, count in wanted for _ in range(count)]
        images = draw(slots, [seed + place for _, seed, count in wanted for place in range(count)])
        encoded, first = [], 0
        for _, _, count in wanted:
            encoded.append(base64.b64encode(encode(images[first : first + count])).decode())
            first += count
        return encoded
