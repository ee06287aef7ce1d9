"""A client of the service's native API, for programs that wait (`Client`) and for those that await (`AsyncClient`).

```python
from sensorium.client import Client

with Client("http://127.0.0.1:8087", key) as service:
    service.observe({"user": "42", "item": "item7"})
    for one in service.recommend(user="42", k=5).items:
        print(one.item, one.title, one.score)
```

Every event gets a key of its own where it has none, so that a request whose answer was lost can be sent again: it is
stored once. Both clients do so by themselves, as they do where the service says that it is busy. What they are asked with and
answer with has its types in `sensorium.client.shapes`.
"""

from sensorium.client.clients import AsyncClient, Client, Refused

__all__ = ["AsyncClient", "Client", "Refused"]
